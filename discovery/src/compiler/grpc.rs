//! Listeners of gRPC programs: `<host>:<port>`, only routes.
//!
//! In: what the program dials: a service's name, long or short, with or without a port. Out: an ApiListener.
//! Invariant: nothing that gRPC would refuse.

use hawser_api::names;
use hawser_api::proto::listener::{ApiListener, Listener};
use hawser_mesh::{Hostname, Protocol};
use hawser_xds::TypeUrl;

use super::Compiled;
use super::context::Context;
use super::listener::chain::http;
use crate::registry::{ServiceState, resolve};

/// A listener by the name that was dialled.
pub(super) fn listener(context: &Context<'_>, name: &str) -> Option<Compiled> {
    let (text, port) = match name.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
        None => (name, None),
    };
    let state = candidates(context, text).into_iter().find_map(|host| called(context, host))?;
    let tcp = |p: &&hawser_mesh::ServicePort| p.protocol != Protocol::Udp;
    let port = match port {
        Some(number) => state.service.port(number).filter(tcp)?,
        None => state.service.ports.iter().find(tcp)?,
    };
    let route = names::route(&state.service.host, port.port);
    let made = Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(http::api(&route)) }),
        ..Listener::default()
    };
    Some(Compiled::new(&made, vec![(TypeUrl::ROUTE, route.into())]))
}

/// The service that a name of it means to callers of the view.
fn called<'a>(context: &Context<'a>, host: Hostname) -> Option<&'a ServiceState> {
    let meant = context.meant(host.clone());
    let state = context.service(&meant)?;
    let own = meant == host || state.service.other_names(&context.view.namespace).any(|name| *name == host);
    own.then_some(state)
}

/// What a name may mean, the likeliest first.
fn candidates(context: &Context<'_>, text: &str) -> Vec<Hostname> {
    let domain = &context.settings().domain;
    let mut all: Vec<Hostname> = text.parse().into_iter().collect();
    all.extend(resolve(text, &context.view.namespace, domain));
    all.extend(format!("{text}.svc.{domain}").parse());
    all.extend(format!("{text}.{domain}").parse());
    all
}
