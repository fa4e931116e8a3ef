//! What is done with heads between two codecs, for who looks at it without a route and an endpoint: the fuzz targets.

use super::connection::Connection;
use super::head::{self, Switch, Wire};
use super::message::{RequestHead, ResponseHead};

/// Checks a request's head, cleans it and makes it fit for an endpoint; whether it asks for another protocol.
///
/// # Errors
/// The status that its client is answered with.
pub fn request(connection: &Connection, head: &mut RequestHead, http1: bool) -> Result<bool, u16> {
    let shape = head::take(connection, head).map_err(|answer| answer.status)?;
    // As listeners of the mesh let it through.
    match &shape.switch {
        Switch::No => {}
        Switch::Upgrade(protocol) if protocol == "websocket" => {}
        Switch::Upgrade(_) | Switch::Connect => return Err(403),
    }
    head::grpc_timeout(&head.fields);
    head::fit(head, &shape, if http1 { Wire::Http1 } else { Wire::Http2 }, Some(1));
    Ok(shape.switch != Switch::No)
}

/// Cleans a response's head.
pub fn response(head: &mut ResponseHead) {
    head::clean_response(head);
}
