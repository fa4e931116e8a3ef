//! The server's end.

use super::*;
use crate::http::progress::Ending;

fn bodies(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.").skip(1).map(|one| one.split_once("\r\n\r\n").map_or("", |(_, body)| body)).collect()
}

#[tokio::test]
async fn a_request_is_answered_and_the_next_one_after_it() {
    let answer = talk(
        b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\nPOST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz",
    )
    .await;
    assert_eq!(bodies(&answer), ["GET h /a?b x-a=1 [] ", "POST h /c  [xyz] "]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_in_chunks_comes_with_its_trailers() {
    let request = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(bodies(&talk(request).await), ["POST h /  [abcde] x-sum=5"]);
}

#[tokio::test]
async fn an_unknown_length_goes_out_in_chunks_or_until_the_end() {
    let answer = talk(b"GET /chunked HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n17\r\nGET h /chunked  [] \r\n0\r\n\r\n"
            .replace("17", "13")
    );
    let answer = talk(b"GET /chunked HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nGET h /chunked connection=keep-alive [] ");
}

#[tokio::test]
async fn an_old_client_keeps_its_connection_if_it_asks() {
    let one = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = talk(format!("{one}GET / HTTP/1.0\r\n\r\n{one}").as_bytes()).await;
    assert_eq!(bodies(&answer), ["GET  / connection=keep-alive [] ", "GET  /  [] "]);
    assert!(
        answer.contains("connection: keep-alive\r\n\r\n") && answer.contains("connection: close\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_wants_to_close_is_served_no_more() {
    let answer = talk(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(bodies(&answer).len(), 1);
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let head = talk(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n");
    assert_eq!(talk(b"GET /nocontent HTTP/1.1\r\nHost: h\r\n\r\n").await, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(
        talk(b"GET /unchanged HTTP/1.1\r\nHost: h\r\n\r\n").await,
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"
    );
}

#[tokio::test]
async fn a_client_is_asked_for_the_body_it_holds_back() {
    let (client, serving, _echo, _progress) = server(4096, Limits::default());
    let (mut reader, mut writer) = tokio::io::split(client);
    let talking = async {
        writer
            .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            .await
            .unwrap();
        let mut asked = [0; 25];
        reader.read_exact(&mut asked).await.unwrap();
        assert_eq!(show(&asked), "HTTP/1.1 100 Continue\r\n\r\n");
        writer.write_all(b"ab").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("[ab] "), "{answer}");
    };
    let (served, ()) = tokio::join!(serving, talking);
    served.unwrap();
}

#[tokio::test]
async fn who_was_not_asked_for_its_body_is_closed() {
    let answer = talk(b"POST /unread HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    let sends = talk(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab").await;
    assert!(sends.starts_with("HTTP/1.1 200") && sends.ends_with("[ab] "), "{sends}");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_skipped_if_it_is_short() {
    let post = |n: usize| format!("POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n{}", "x".repeat(n));
    let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(bodies(&talk((post(50_000) + get).as_bytes()).await).len(), 2);
    assert_eq!(bodies(&talk((post(500_000) + get).as_bytes()).await).len(), 1);
}

#[tokio::test]
async fn another_protocol_gets_all_that_was_read() {
    let answer = talk(b"GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello").await;
    assert_eq!(answer, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello");
    // Nobody gets HTTP/2 that way.
    let answer = talk(b"GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
    assert!(answer.ends_with("GET h /upgrade connection=Upgrade [] "), "{answer}");
}

#[tokio::test]
async fn interim_responses_are_for_clients_that_know_them() {
    let answer = talk(b"GET /early HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(talk(b"GET /early HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 OK\r\n"));
}

#[tokio::test]
async fn what_breaks_off_does_not_look_whole() {
    let answer = talk(b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    assert_eq!(talk(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n").await, "");
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    let (mut client, serving, echo, progress) = server(4096, Limits::default());
    let talking = async {
        client.write_all(b"GET /gone HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        while echo.requests.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(progress.active(), 1);
        drop(client);
    };
    let (served, ()) = tokio::join!(serving, talking);
    assert!(served.is_err());
    assert_eq!((echo.requests.get(), progress.active()), (100, 0));
}

#[tokio::test]
async fn a_slow_head_is_answered_an_idle_connection_is_not() {
    for (sent, expected) in [("GET / HT", "HTTP/1.1 408 "), ("", "")] {
        // What does not fit into the pipe has been read when it is written.
        let (mut client, serving, echo, progress) = server(4, Limits::default());
        let talking = async {
            client.write_all(sent.as_bytes()).await.unwrap();
            progress.tell(Ending::Now);
            let mut answer = Vec::new();
            let mut byte = [0; 1];
            while let Ok(1) = client.read(&mut byte).await {
                answer.push(byte[0]);
            }
            drop(client);
            show(&answer)
        };
        let (_, answer) = tokio::join!(serving, talking);
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{answer}");
        assert_eq!(echo.rejected.borrow().len(), usize::from(!sent.is_empty()));
    }
}

#[tokio::test]
async fn a_connection_that_is_to_end_serves_what_has_arrived() {
    let (mut client, serving, _echo, progress) = server(4096, Limits::default());
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    progress.tell(Ending::Graceful);
    let mut answer = String::new();
    let (served, read) = tokio::join!(serving, client.read_to_string(&mut answer));
    assert!(served.is_ok() && read.is_ok());
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nGET h /  [] ");
}

#[tokio::test]
async fn a_connection_whose_next_answer_is_its_last_waits_for_that() {
    let (mut client, serving, _echo, progress) = server(4096, Limits::default());
    let talking = async {
        client.write_all(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        progress.tell(Ending::Last);
        // Nobody asks for anything, and nobody is cut off.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        client.write_all(b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        rest
    };
    let (served, rest) = tokio::join!(serving, talking);
    served.unwrap();
    assert_eq!(rest.matches("connection: close").count(), 1, "{rest}");
    assert!(rest.contains("GET h /2"), "{rest}");
}

#[tokio::test]
async fn tiny_pipes_carry_everything() {
    let body = "0123456789".repeat(2000);
    let request =
        format!("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for pipe in [1, 7, 4000] {
        let (answer, _) = talk_in(pipe, &[request.as_bytes()], Limits::default()).await;
        assert!(answer.ends_with(&format!("[{body}] ")), "{pipe}");
    }
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let (mut client, serving, _echo, _progress) = server(4096, Limits::default());
    assert!(std::mem::size_of_val(&serving) < 4096, "{}", std::mem::size_of_val(&serving));
    let mut serving = std::pin::pin!(serving);
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET").await.unwrap();
    let talking = async {
        let mut answer = [0; 51];
        client.read_exact(&mut answer).await.unwrap();
    };
    tokio::select! {
        _ = &mut serving => unreachable!("the connection goes on"),
        () = talking => {}
    }
    assert_eq!(super::super::buffers::lent(), 0);
}

#[tokio::test]
async fn what_breaks_off_without_a_length_is_reset() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let stream = Stream::plain(Plain::tcp(server));
    let serving = serve(stream, Limits::default(), Rc::new(Echo::default()), Progress::new(Rc::default()));
    let talking = async {
        client.write_all(b"GET /broken-open HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await
    };
    let (served, read) = tokio::join!(serving, talking);
    assert!(served.is_err());
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
