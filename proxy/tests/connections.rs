//! Connections that are carried whole, through real proxies in a network namespace: TLS of the application's own by
//! server name, servers that speak first, HBONE, and tunnels between proxies.
//!
//! In: the built program. Out: bytes at both ends. Each test starts itself again inside a namespace of its own; nothing
//! is done to the machine's own network.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "traffic/ads.rs"]
mod ads;
#[path = "connections/ambient.rs"]
mod ambient;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "traffic/apps.rs"]
mod apps;
#[path = "connections/callers.rs"]
mod callers;
#[path = "connections/greeting.rs"]
mod greeting;
#[path = "connections/hbone.rs"]
mod hbone;
#[path = "connections/net.rs"]
mod net;
#[path = "connections/passthrough.rs"]
mod passthrough;
#[path = "connections/refusals.rs"]
mod refusals;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "traffic/resources.rs"]
mod resources;
#[path = "connections/tunnels.rs"]
mod tunnels;
#[path = "connections/world.rs"]
mod world;

#[test]
fn tls_of_the_application_goes_where_its_server_name_says() {
    net::inside("tls_of_the_application_goes_where_its_server_name_says", passthrough::story);
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_where_nothing_has_to_be_guessed() {
    net::inside("a_server_that_speaks_first_is_heard_at_once_where_nothing_has_to_be_guessed", greeting::story);
}

#[test]
fn an_ambient_mesh_comes_in_through_hbone() {
    net::inside("an_ambient_mesh_comes_in_through_hbone", hbone::inbound);
}

#[test]
fn an_ambient_workload_is_reached_through_hbone() {
    net::inside("an_ambient_workload_is_reached_through_hbone", hbone::outbound);
}

#[test]
fn connections_between_two_of_our_kind_share_few() {
    net::inside("connections_between_two_of_our_kind_share_few", tunnels::story);
}

#[test]
fn connections_that_are_turned_away_are_in_the_logs_of_their_listeners() {
    net::inside("connections_that_are_turned_away_are_in_the_logs_of_their_listeners", refusals::story);
}

#[test]
fn an_application_hears_who_calls_of_those_that_prove_it() {
    net::inside("an_application_hears_who_calls_of_those_that_prove_it", callers::story);
}
