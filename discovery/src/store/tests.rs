use super::*;

fn registration(service: &str) -> Registration {
    Registration {
        service: service.into(),
        namespace: "default".into(),
        address: "10.0.0.9".into(),
        ports: vec![PortRecord { name: "tcp".into(), port: 5432 }],
        labels: Default::default(),
        service_account: String::new(),
        weight: 0,
        locality: Default::default(),
    }
}

fn put(store: &Store, key: &'static str) {
    store.write_blocking(move |txn| txn.put(key, &registration(key))).unwrap();
}

#[test]
fn what_was_written_is_there_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, "a");
    drop(store);
    let store = reopen(dir.path());
    assert_eq!(store.list::<Registration>().unwrap(), [("a".to_owned(), registration("a"))]);
    assert_eq!(store.get::<Registration>("b").unwrap(), None);
}

#[test]
fn a_job_that_fails_leaves_its_neighbours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(async {
        let jobs = (0..50).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .write(move |txn| match n % 2 {
                        0 => txn.put(&n.to_string(), &registration("x")),
                        _ => Err(StoreError::Backup("no".into())),
                    })
                    .await
                    .is_ok()
            })
        });
        for (n, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), n % 2 == 0);
        }
    });
    assert_eq!(store.list::<Registration>().unwrap().len(), 25);
}

#[test]
fn a_second_program_and_a_newer_schema_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("in use by another hawser-discovery"), "{error}");
    store.write_blocking(|txn| txn.put_meta("schema", "7")).unwrap();
    drop(store);
    let error = loop {
        match Store::open(dir.path()) {
            Err(StoreError::InUse(_)) => std::thread::yield_now(),
            Err(error) => break error.to_string(),
            Ok(_) => panic!("a newer store was opened"),
        }
    };
    assert!(error.contains("schema 7, this program knows 2"), "{error}");
}

#[test]
fn a_copy_is_restored_whole_or_not_at_all() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(from.path()).unwrap();
    put(&store, "a");
    write_file(&from.path().join("ca.key"), b"secret", 0o600).unwrap();
    let mut copy = Vec::new();
    store
        .backup(|piece| {
            copy.extend(piece);
            true
        })
        .unwrap();
    let cut = &copy[..copy.len() - 30];
    assert!(restore(to.path(), cut).unwrap_err().to_string().contains("ends too early"));
    let mut changed = copy.clone();
    let at = changed.windows(7).position(|w| w == b"\"value\"").unwrap() + 12;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    assert!(restore(to.path(), changed.as_slice()).is_err());
    assert!(!to.path().join(FILE).exists());

    assert_eq!(restore(to.path(), copy.as_slice()).unwrap().entries, 3);
    assert_eq!(read_private(&to.path().join("ca.key")).unwrap().as_str(), "secret");
    let restored = reopen(to.path());
    assert_eq!(restored.get::<Registration>("a").unwrap(), Some(registration("a")));
    assert!(restore(to.path(), copy.as_slice()).unwrap_err().to_string().contains("exists"));
}

/// The writer's thread lets go of the file a moment after the last handle.
fn reopen(dir: &Path) -> Store {
    loop {
        match Store::open(dir) {
            Err(StoreError::InUse(_)) => std::thread::yield_now(),
            result => return result.unwrap(),
        }
    }
}
