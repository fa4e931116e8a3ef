//! Four small services that know nothing of any mesh: productpage calls details and reviews, reviews calls ratings.
//!
//! In: a role, a port, and where the others are, by name. Out: JSON over HTTP/1.1; the header `x-served-by` names
//! host and version. Invariant: plain sockets and the system's resolver; no word of a mesh.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use hawser_tests::http;
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Args {
    #[arg(value_enum)]
    role: Role,
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// Version of reviews: v1 shows no stars, v2 black ones, v3 red ones
    #[arg(long, default_value = "v1")]
    version: String,
    /// Where the other services are
    #[arg(long, default_value = "default.svc.cluster.local")]
    suffix: String,
    /// Text that every answer holds
    #[arg(long, default_value = "")]
    marker: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Productpage,
    Details,
    Reviews,
    Ratings,
}

/// Headers that a service hands on, so that what belongs together stays together.
const HANDED_ON: [&str; 4] = ["x-request-id", "traceparent", "tracestate", "end-user"];

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let args = Arc::new(Args::parse());
    let listener = TcpListener::bind(("::", args.port)).with_context(|| format!("port {}", args.port))?;
    println!("ready");
    for stream in listener.incoming().flatten() {
        let args = args.clone();
        std::thread::spawn(move || connection(&args, stream));
    }
    Ok(())
}

struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

fn connection(args: &Args, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream)? {
        let close = request.headers.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let (status, body) = answer(args, &request);
        let body = body.to_string();
        let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-served-by: {host}/{}\r\n\r\n",
            if status == 200 { "OK" } else { "Not OK" },
            body.len(),
            args.version,
        );
        stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        if close {
            break;
        }
    }
    Ok(())
}

fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if stream.by_ref().take(16 << 10).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).context("a request line has a path")?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.by_ref().take(16 << 10).read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if let Some(length) = headers.get("content-length").and_then(|l| l.parse::<u64>().ok()) {
        std::io::copy(&mut stream.by_ref().take(length.min(1 << 20)), &mut std::io::sink())?;
    }
    Ok(Some(Request { path, headers }))
}

fn answer(args: &Args, request: &Request) -> (u16, Value) {
    let id = request.path.rsplit('/').next().unwrap_or("0");
    let mut body = match (args.role, request.path.as_str()) {
        (_, "/health") => json!({"status": "healthy"}),
        (_, "/headers") => json!(request.headers),
        (Role::Details, _) => {
            json!({"id": id, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200})
        }
        (Role::Ratings, _) => json!({"id": id, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}),
        (Role::Reviews, _) => return reviews(args, request, id),
        (Role::Productpage, _) => return productpage(args, request),
    };
    mark(args, &mut body);
    (200, body)
}

fn reviews(args: &Args, request: &Request, id: &str) -> (u16, Value) {
    let colour = match args.version.as_str() {
        "v1" => None,
        "v2" => Some("black"),
        _ => Some("red"),
    };
    let mut body =
        json!({"id": id, "version": args.version, "reviews": ["An extremely entertaining play.", "Absolutely fun."]});
    let mut status = 200;
    if let Some(colour) = colour {
        let (code, ratings) = call(args, request, "ratings", &format!("/ratings/{id}"));
        status = code;
        body["ratings"] = json!({"stars": ratings["ratings"], "color": colour});
    }
    mark(args, &mut body);
    (status, body)
}

fn productpage(args: &Args, request: &Request) -> (u16, Value) {
    let (details_status, details) = call(args, request, "details", "/details/0");
    let (reviews_status, reviews) = call(args, request, "reviews", "/reviews/0");
    let mut body = json!({"details": details, "reviews": reviews});
    mark(args, &mut body);
    (details_status.max(reviews_status), body)
}

fn call(args: &Args, request: &Request, service: &str, path: &str) -> (u16, Value) {
    let url = format!("http://{service}.{}:9080{path}", args.suffix);
    let headers: Vec<_> =
        (HANDED_ON.iter()).filter_map(|name| Some(((*name).to_owned(), request.headers.get(*name)?.clone()))).collect();
    match http::get(&url, &headers, Duration::from_secs(10)) {
        Ok((answer, _)) if answer.status == 200 => {
            (200, serde_json::from_str(&answer.body).unwrap_or_else(|_| json!(answer.body)))
        }
        Ok((answer, _)) => (502, json!({"error": format!("{service} said {}: {}", answer.status, answer.body)})),
        Err(error) => (503, json!({"error": format!("{service}: {error:#}")})),
    }
}

fn mark(args: &Args, body: &mut Value) {
    if !args.marker.is_empty() {
        body["marker"] = json!(args.marker);
    }
}
