//! A gRPC service of one unary method.

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use crate::bodies;
use crate::load::grpc::{ANSWERED, ASKED};

/// Serves one connection.
pub(super) async fn serve(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(async move {
            // A caller that is gone needs no answer.
            let _ = call(request, respond).await;
        });
    }
}

async fn call(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let is_ours = request.uri().path() == "/bench.Bench/Call";
    let mut body = request.into_body();
    let mut asked = Vec::with_capacity(64);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        asked.extend_from_slice(&data);
    }
    let good = is_ours && asked == bodies::grpc(ASKED);
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(Bytes::from(bodies::grpc(ANSWERED)), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(if good { "0" } else { "3" }));
    stream.send_trailers(trailers)
}
