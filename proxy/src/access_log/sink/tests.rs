use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::access_log::{Downstream, Filter, Flags, Format};

const SOON: Duration = Duration::from_secs(20);

fn log(path: &Path, format: &str, filter: Filter) -> Arc<AccessLog> {
    let file = path.to_str().unwrap().into();
    Arc::new(AccessLog { filter, format: Arc::new(Format::text(format, false).unwrap()), file })
}

fn record(status: u16) -> Record<'static> {
    let mut record = Record::new(Downstream::default(), SystemTime::UNIX_EPOCH, Duration::ZERO);
    record.status = status;
    record
}

fn writer() -> (Writer, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Writer::new(counters.clone()), counters)
}

fn dropped(counters: &Counters) -> u64 {
    counters.access_log_dropped_lines.load(Relaxed)
}

#[test]
fn lines_of_all_workers_come_to_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let (all, errors) = (dir.path().join("all"), dir.path().join("errors"));
    let logs = [log(&all, "%RESPONSE_CODE%\n", Filter::All), log(&errors, "%RESPONSE_CODE%!\n", Filter::Errors)];
    let (writer, counters) = writer();
    assert!(writer.flush(SOON), "there is nothing to write");
    let (one, two) = (writer.lines(), writer.lines());
    one.write(&logs, &record(200));
    two.write(&logs, &record(503));
    one.write(&logs, &record(204));
    assert!(writer.flush(SOON));
    assert_eq!(std::fs::read_to_string(&all).unwrap(), "200\n204\n503\n");
    assert_eq!(std::fs::read_to_string(&errors).unwrap(), "503!\n");
    assert_eq!(dropped(&counters), 0);
}

#[test]
fn a_line_is_written_without_anybody_asking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (writer, _) = writer();
    writer.lines().write(&[log(&path, "x\n", Filter::All)], &record(200));
    let until = Instant::now() + SOON;
    while !std::fs::read_to_string(&path).is_ok_and(|text| text == "x\n") {
        assert!(Instant::now() < until, "a line that waits for ever");
        std::thread::yield_now();
    }
    assert!(writer.flush(SOON));
    assert!(writer.shared.workers.lock().is_empty(), "the worker is gone");
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
    let logs = [log(&path, "%RESPONSE_CODE%\n", Filter::All)];
    let (writer, _) = writer();
    let lines = writer.lines();
    for status in [1, 2] {
        lines.write(&logs, &record(status));
        assert!(writer.flush(SOON));
        if status == 1 {
            std::fs::rename(&path, &old).unwrap();
        }
    }
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "1\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n");
    writer.reopen();
    lines.write(&logs, &record(3));
    assert!(writer.flush(SOON));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n3\n", "what is there is kept");
}

#[test]
fn what_cannot_be_written_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none/log");
    let logs = [log(&path, "%RESPONSE_CODE%\n", Filter::All)];
    let (writer, counters) = writer();
    let lines = writer.lines();
    lines.write(&logs, &record(1));
    lines.write(&logs, &record(2));
    assert!(writer.flush(SOON));
    assert_eq!(dropped(&counters), 2);
    std::fs::create_dir(dir.path().join("none")).unwrap();
    lines.write(&logs, &record(3));
    assert!(writer.flush(SOON));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
}

#[test]
fn a_full_buffer_drops_lines_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let logs = [log(&dir.path().join("log"), &"x".repeat(16 * 1024), Filter::All)];
    let (writer, counters) = writer();
    // As if the thread were there, and stuck.
    writer.shared.state.lock().running = true;
    let lines = writer.lines();
    for _ in 0..20 {
        lines.write(&logs, &record(200));
    }
    assert_eq!(dropped(&counters), 4);
    assert_eq!(lines.buffers.lock().files[0].bytes.len(), MOST);
    assert!(!writer.flush(Duration::from_millis(1)));
}

#[test]
fn a_worker_writes_a_bounded_number_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, counters) = writer();
    writer.shared.state.lock().running = true;
    let lines = writer.lines();
    for i in 0..=MOST_FILES {
        lines.write(&[log(&dir.path().join(i.to_string()), "x\n", Filter::All)], &record(200));
    }
    assert_eq!(dropped(&counters), 1);
}

#[test]
fn filters_take_what_they_say() {
    use crate::access_log::Comparison;
    let mut failed = record(404);
    failed.flags = Flags::NR;
    failed.duration = Duration::from_millis(70);
    let fine = record(200);
    let both = vec![Filter::Status(Comparison::AtLeast, 400), Filter::Duration(Comparison::AtMost, 50)];
    for (filter, takes_failed, takes_fine) in [
        (Filter::All, true, true),
        (Filter::Errors, true, false),
        (Filter::Status(Comparison::Equal, 404), true, false),
        (Filter::Status(Comparison::NotEqual, 404), false, true),
        (Filter::Flags(Flags::NR | Flags::UF), true, false),
        (Filter::Flags(Flags::UF), false, false),
        (Filter::Grpc(1, false), false, true),
        (Filter::Grpc(1, true), true, false),
        (Filter::And(both.clone()), false, false),
        (Filter::Or(both), true, true),
    ] {
        assert_eq!((filter.takes(&failed), filter.takes(&fine)), (takes_failed, takes_fine), "{filter:?}");
    }
    let mut grpc = record(200);
    (grpc.grpc, grpc.grpc_status) = (true, Some(0));
    assert!(!Filter::Errors.takes(&grpc));
    grpc.grpc_status = Some(14);
    assert!(Filter::Errors.takes(&grpc));
}
