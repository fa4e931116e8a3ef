use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::http::progress::Ending;

#[test]
fn a_request_arrives_as_it_was_sent_and_its_response_too() {
    run(async {
        let (connection, progress) = pair(4096, Limits::default(), Site);
        let mut request = get("/x?y=1");
        request.fields.push(b"user-agent", b"me");
        let mut stream = connection.open().unwrap();
        stream.request(&request, Length::None).unwrap();
        let response = head(&mut stream).await.unwrap();
        assert_eq!((response.status, response.length), (200, Length::None));
        let fields: Vec<_> = response.fields.iter().map(|f| (f.name, f.value)).collect();
        assert_eq!(
            fields,
            [
                (&b"x-path"[..], &b"/x?y=1"[..]),
                (b"x-authority", b"a.b"),
                (b"x-method", b"GET"),
                (b"x-length", b"None"),
                (b"user-agent", b"me")
            ]
        );
        assert!(stream.is_received());
        assert_eq!(connection.active(), 1);
        drop(stream);
        assert_eq!((connection.active(), progress.active(), connection.requests()), (0, 0, 1));
    });
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    run(async {
        for path in ["/echo", "/stream"] {
            let (connection, _) = pair(10_000, Limits::default(), Site);
            let mut stream = connection.open().unwrap();
            stream.request(&post(path), Length::Unknown).unwrap();
            send(&mut stream, b"hello", false).await.unwrap();
            let mut trailers = Fields::default();
            trailers.push(b"grpc-status", b"0");
            stream.finish(Some(&trailers)).unwrap();
            assert_eq!(head(&mut stream).await.unwrap().length, Length::Unknown);
            let (body, trailers) = collect(&mut stream).await.unwrap();
            assert_eq!(body, b"hello");
            assert_eq!(trailers.unwrap().known(Known::GrpcStatus), Some(&b"0"[..]));
        }
    });
}

#[test]
fn large_bodies_arrive_whole_whatever_the_windows() {
    run(async {
        for (pipe, window) in [(100, 100_000), (1 << 20, 1000), (60_000, 256 * 1024)] {
            let limits = Limits { stream_window: window, connection_window: 70_000, ..Limits::default() };
            let (connection, _) = pair(pipe, limits, Site);
            let body = noise(500_000);
            let mut stream = connection.open().unwrap();
            stream.request(&post("/stream"), Length::Exact(body.len() as u64)).unwrap();
            let sent = body.clone();
            let mut tunnel = Tunnel::new(stream);
            poll_fn(|cx| {
                let stream = tunnel.channel();
                stream.poll_response(cx)
            })
            .await
            .unwrap();
            let (mut reader, mut writer) = tokio::io::split(tunnel);
            let writing = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, n) = tokio::join!(writing, reader.read_to_end(&mut got));
            assert_eq!((n.unwrap(), got == body), (body.len(), true));
        }
    });
}

#[test]
fn many_requests_at_a_time_do_not_disturb_each_other() {
    run(async {
        let (connection, progress) = pair(50_000, Limits::default(), Site);
        let mut tasks = Vec::new();
        for n in 0..100_usize {
            let connection = connection.clone();
            tasks.push(tokio::task::spawn_local(async move {
                let mut stream = connection.open().unwrap();
                let body = noise(n * 997);
                stream.request(&post("/echo"), Length::Unknown).unwrap();
                send(&mut stream, &body, false).await.unwrap();
                stream.finish(None).unwrap();
                head(&mut stream).await.unwrap();
                assert!(collect(&mut stream).await.unwrap().0 == body);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((connection.active(), progress.active()), (0, 0));
    });
}

#[test]
fn a_stream_that_nobody_reads_does_not_stop_the_others() {
    run(async {
        let (connection, _) = pair(50_000, Limits::default(), Site);
        let mut slow = connection.open().unwrap();
        slow.request(&get("/large"), Length::None).unwrap();
        head(&mut slow).await.unwrap();
        for _ in 0..20 {
            let mut stream = connection.open().unwrap();
            stream.request(&get("/large"), Length::None).unwrap();
            head(&mut stream).await.unwrap();
            assert!(collect(&mut stream).await.unwrap().0 == noise(1 << 20));
        }
        assert!(collect(&mut slow).await.unwrap().0 == noise(1 << 20));
    });
}

#[test]
fn what_breaks_is_told_at_the_other_end() {
    run(async {
        let (connection, _) = pair(50_000, Limits::default(), Site);
        let mut stream = connection.open().unwrap();
        stream.request(&get("/reset"), Length::None).unwrap();
        assert_eq!(head(&mut stream).await.unwrap_err(), Broken::Reset);
        assert_eq!(stream.reset_code(), Some(Code::INTERNAL_ERROR));

        // A body that breaks off is read up to there.
        let mut stream = connection.open().unwrap();
        stream.request(&get("/half"), Length::None).unwrap();
        head(&mut stream).await.unwrap();
        let half = poll_fn(|cx| stream.poll_piece(cx).map(|p| format!("{p:?}"))).await;
        assert_eq!(half, format!("{:?}", Ok::<_, Broken>(Piece::Data { bytes: b"half", last: false })));
        stream.consume(4);
        assert_eq!(collect(&mut stream).await.unwrap_err(), Broken::Reset);

        // A response before the request's end is whole; the rest of the request is not wanted.
        let mut stream = connection.open().unwrap();
        stream.request(&post("/early"), Length::Unknown).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 403);
        assert_eq!(collect(&mut stream).await.unwrap().0, b"");
        let rest = send(&mut stream, &noise(1 << 20), true).await;
        assert_eq!((rest, stream.reset_code()), (Err(Broken::Reset), Some(Code::NO_ERROR)));

        let mut stream = connection.open().unwrap();
        stream.request(&get("/gone"), Length::None).unwrap();
        tokio::task::yield_now().await;
        drop(stream);
        let mut stream = connection.open().unwrap();
        stream.request(&get("/"), Length::None).unwrap();
        head(&mut stream).await.unwrap();
    });
}

#[test]
fn interim_responses_come_first_and_once() {
    run(async {
        let (connection, _) = pair(50_000, Limits::default(), Site);
        let mut stream = connection.open().unwrap();
        stream.request(&get("/interim"), Length::None).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 103);
        let response = head(&mut stream).await.unwrap();
        assert_eq!((response.status, response.length), (200, Length::Exact(3)));
        assert_eq!(collect(&mut stream).await.unwrap().0, b"abc");
    });
}

#[test]
fn a_connection_that_is_told_to_end_serves_what_it_has() {
    run(async {
        let (connection, progress) = pair(50_000, Limits::default(), Site);
        let mut stream = connection.open().unwrap();
        stream.request(&post("/echo"), Length::Unknown).unwrap();
        head(&mut stream).await.unwrap();
        progress.tell(Ending::Graceful);
        while !connection.is_closed() {
            tokio::task::yield_now().await;
        }
        assert_eq!(connection.open().unwrap_err(), Broken::Gone);
        send(&mut stream, b"late", true).await.unwrap();
        assert_eq!(collect(&mut stream).await.unwrap().0, b"late");

        let (connection, progress) = pair(50_000, Limits::default(), Site);
        let mut stream = connection.open().unwrap();
        stream.request(&post("/echo"), Length::Unknown).unwrap();
        head(&mut stream).await.unwrap();
        progress.tell(Ending::Now);
        assert_eq!(collect(&mut stream).await.unwrap_err(), Broken::Gone);
        assert!(connection.is_closed());
    });
}

#[test]
fn a_connection_that_ends_with_time_serves_what_is_on_its_way() {
    run(async {
        for ending in [Ending::Last, Ending::Graceful] {
            let (connection, progress) = pair(50_000, Limits::default(), Site);
            let mut first = connection.open().unwrap();
            first.request(&get("/interim"), Length::None).unwrap();
            head(&mut first).await.unwrap();
            progress.tell(ending);
            // It has not heard of it.
            let mut second = connection.open().unwrap();
            second.request(&get("/interim"), Length::None).unwrap();
            let served = head(&mut second).await;
            assert_eq!(served.is_ok(), ending == Ending::Last, "{ending:?}: {served:?}");
            drop((first, second));
            while !connection.is_closed() {
                tokio::task::yield_now().await;
            }
            assert_eq!(connection.open().unwrap_err(), Broken::Gone);
        }
    });
}

#[test]
fn a_silent_server_is_found_dead_within_a_second() {
    run(async {
        let (near, far) = tokio::io::duplex(4096);
        let (connection, driver) = connect(stream(near), Limits::default(), false);
        tokio::task::spawn_local(async move { drop(driver.await) });
        let later = crate::clock::now_ms() + 6000;
        assert!(connection.is_alive(crate::clock::now_ms()).await);
        assert!(!connection.is_alive(later).await && connection.is_closed());
        drop(far);
        let (connection, _) = pair(4096, Limits::default(), Site);
        assert!(connection.is_alive(later).await);
    });
}

#[test]
fn a_client_that_is_dropped_ends_the_connection() {
    run(async {
        let (near, far) = tokio::io::duplex(4096);
        let serving = serve(stream(far), Limits::default(), Rc::new(Site), progress());
        let (connection, driver) = connect(stream(near), Limits::default(), false);
        drop(connection);
        let (served, driven) = tokio::join!(serving, driver);
        assert!(served.is_ok() && driven.is_ok(), "{served:?} {driven:?}");
    });
}

#[test]
fn a_dead_peer_is_found_by_its_silence() {
    run(async {
        let (_near, far) = tokio::io::duplex(4096);
        let moment = Duration::from_millis(20);
        let limits = Limits { silence: moment, answer: moment, ..Limits::default() };
        let served = serve(stream(far), limits, Rc::new(Site), progress()).await;
        assert_eq!(served.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_tunnel_carries_bytes_both_ways_and_closes_each_by_itself() {
    run(async {
        let (near, far) = tokio::io::duplex(4096);
        let serving = accept(stream(far), Limits::default(), progress(), |request, mut stream| {
            assert_eq!(
                (request.method.as_str(), request.authority(), request.length),
                ("CONNECT", "1.2.3.4:80", Length::Unknown)
            );
            tokio::task::spawn_local(async move {
                stream.respond(&ResponseHead { length: Length::Unknown, ..ResponseHead::new(200) }).unwrap();
                let mut tunnel = Tunnel::new(stream);
                tunnel.write_all(b"I speak first").await.unwrap();
                let mut got = Vec::new();
                tunnel.read_to_end(&mut got).await.unwrap();
                tunnel.write_all(&got).await.unwrap();
                tunnel.shutdown().await.unwrap();
            });
        });
        tokio::task::spawn_local(async move { drop(serving.await) });
        let (connection, driver) = connect(stream(near), Limits::default(), true);
        tokio::task::spawn_local(async move { drop(driver.await) });
        let mut stream = connection.open().unwrap();
        let mut request = RequestHead::new(http::Method::CONNECT, Version::Http2);
        request.set_authority(b"1.2.3.4:80");
        stream.request(&request, Length::Unknown).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 200);
        let mut tunnel = Tunnel::new(stream);
        let mut first = [0; 13];
        tunnel.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"I speak first");
        let sent = noise(100_000);
        tunnel.write_all(&sent).await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut got = Vec::new();
        tunnel.read_to_end(&mut got).await.unwrap();
        assert!(got == sent);
        drop(tunnel);
        assert_eq!(connection.active(), 0);
    });
}

#[test]
fn what_many_streams_say_in_a_turn_is_written_at_once() {
    run(async {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (connection, driver) = connect(stream(near), Limits::default(), false);
        tokio::task::spawn_local(async move { drop(driver.await) });
        tokio::task::yield_now().await;
        let streams: Vec<_> = (0..50)
            .map(|_| {
                let mut stream = connection.open().unwrap();
                stream.request(&get("/"), Length::None).unwrap();
                stream
            })
            .collect();
        let mut far = far;
        let mut buffer = vec![0; 1 << 20];
        let first = far.read(&mut buffer).await.unwrap();
        tokio::task::yield_now().await;
        let second = far.read(&mut buffer).await.unwrap();
        assert!(first < 200 && second > 50 * 12, "{first} {second}");
        drop(streams);
    });
}
