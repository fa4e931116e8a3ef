use super::*;

fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
    let data: BTreeMap<&str, String> = data.iter().map(|(key, text)| (*key, STANDARD.encode(text))).collect();
    let json = serde_json::json!({"metadata": {"name": name, "namespace": "istio-system"}, "data": data});
    serde_json::from_value(json).unwrap()
}

fn kubeconfig(user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
         clusters: [{{name: a, cluster: {{server: 'https://10.0.0.1:6443'}}}}]\nusers: [{{name: a, user: {{{user}}}}}]\n"
    )
}

#[test]
fn secrets_name_clusters_which_come_and_go_with_them() {
    let mut clusters = Clusters::default();
    assert!(!clusters.is_whole());
    let good = kubeconfig("token: t");
    clusters
        .take(Change::Whole(vec![secret("a", &[("west", &good)]), secret("b", &[("east", &good), ("west", &good)])]));
    assert!(clusters.is_whole());
    let wanted = clusters.wanted("main");
    assert_eq!(wanted.clusters.keys().collect::<Vec<_>>(), ["east", "west"]);
    clusters.take(Change::Gone(Name::new("istio-system", "a")));
    assert_eq!(clusters.wanted("main").clusters.len(), 2, "the second secret names it too");
    clusters.take(Change::Set(secret("b", &[("east", &good)])));
    assert_eq!(clusters.wanted("main").clusters.keys().collect::<Vec<_>>(), ["east"]);
}

#[test]
fn what_is_no_kubeconfig_or_would_do_something_here_is_refused_and_its_cluster_stays() {
    let mut clusters = Clusters::default();
    let exec = kubeconfig("exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}");
    let file = kubeconfig("tokenFile: /etc/shadow");
    let data = [("exec", exec.as_str()), ("file", &file), ("main", &file), ("no", "- x"), ("bad name!", &file)];
    clusters.take(Change::Whole(vec![secret("a", &data)]));
    let wanted = clusters.wanted("main");
    assert!(wanted.clusters.is_empty());
    for (cluster, why) in [
        ("exec", "run programs"),
        ("file", "files of this host"),
        ("main", "keeps"),
        ("no", "kubeconfig"),
        ("bad name!", "letters"),
    ] {
        assert!(wanted.unusable[cluster].contains(why), "{cluster}: {}", wanted.unusable[cluster]);
    }
    assert!(!format!("{clusters:?} {wanted:?}").contains("command"), "what is in secrets is shown nowhere");
}

#[test]
fn names_are_remembered_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::new(Some(dir.path()), "main");
    assert!(memory.names().is_empty());
    memory.keep(&["east".to_owned(), "west".to_owned()]).unwrap();
    assert_eq!(Memory::new(Some(dir.path()), "main").names(), ["east", "west"]);
    assert!(Memory::new(Some(dir.path()), "other").names().is_empty());
    assert!(Memory::new(None, "main").keep(&[]).is_ok());
}
