//! What of a VirtualService's values no proxy does: words of `retryOn`, variables in headers, headers that frame messages.
//!
//! In: a checked VirtualService. Out: words without effect, and why it must be refused: a proxy would refuse the whole
//! route for such a header, and go on with what it had.

use super::{Report, Unhonoured};
use crate::istio::virtual_service::{HeaderOperations, Headers, HttpRoute};
use crate::istio::{FieldPath, Segment, VirtualService};

/// Words of `retryOn` that proxies don't know, or that nothing can come to.
const NO_EFFECT: [&str; 5] =
    ["retriable-headers", "http3-post-connect-failure", "unknown", "unauthenticated", "aborted"];
/// Headers that frame messages: who could set these could smuggle requests.
const FRAMING: [&str; 6] = ["content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];

/// Whether a word of `retryOn` has an effect.
pub fn retries_on(word: &str) -> bool {
    !NO_EFFECT.contains(&word)
}

/// Adds what is to be said to a report.
pub(super) fn look(service: &VirtualService, path: &FieldPath, report: &mut Report) {
    for (index, route) in service.http.iter().enumerate() {
        let mut path = path.clone();
        path.push_field("http");
        path.0.push(Segment::Index(index));
        retries(route, &path, report);
        for (place, headers) in of_route(route, &path) {
            let refused = headers_refused(headers);
            if let Some(why) = refused.filter(|_| report.refuse.is_none()) {
                report.refuse = Some(format!("{place}: {why}"));
            }
        }
    }
}

fn retries(route: &HttpRoute, path: &FieldPath, report: &mut Report) {
    let Some(retries) = &route.retries else { return };
    for word in retries.retry_on.split(',').map(str::trim).filter(|word| !retries_on(word)) {
        let mut path = path.clone();
        path.push_field("retries");
        path.push_field("retryOn");
        report
            .unhonoured
            .push(Unhonoured { path, why: format!("{word} has no effect: proxies never try again for it") });
    }
}

fn of_route<'r>(route: &'r HttpRoute, path: &FieldPath) -> Vec<(FieldPath, &'r Headers)> {
    let below = |path: &FieldPath, field: &str| {
        let mut path = path.clone();
        path.push_field(field);
        path
    };
    let mut all: Vec<_> = route.headers.iter().map(|headers| (below(path, "headers"), headers)).collect();
    for (index, to) in route.route.iter().enumerate() {
        let mut path = below(path, "route");
        path.0.push(Segment::Index(index));
        all.extend(to.headers.iter().map(|headers| (below(&path, "headers"), headers)));
    }
    all
}

fn headers_refused(headers: &Headers) -> Option<String> {
    [&headers.request, &headers.response].into_iter().flatten().find_map(operations_refused)
}

fn operations_refused(operations: &HeaderOperations) -> Option<String> {
    let changed = operations.set.iter().chain(&operations.add);
    let names = changed.clone().map(|(name, _)| name).chain(&operations.remove);
    for name in names {
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return Some(format!("{name}: it frames messages, and no route may change it"));
        }
    }
    let variable = |value: &str| value.replace("%%", "").contains('%');
    let (name, value) = changed.into_iter().find(|(_, value)| variable(value))?;
    Some(format!("{name}: {value:?}: variables are not honoured; for a percent sign write %%"))
}

#[cfg(test)]
mod tests {
    use crate::istio::{honoured, parse_documents};

    fn report(http: &str) -> super::Report {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
             spec: {{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}], {http}}}]}}\n"
        );
        honoured(&parse_documents("a.yaml", &text).remove(0).unwrap().resource)
    }

    #[test]
    fn what_proxies_would_refuse_is_refused_with_its_cure() {
        let why = |http: &str| report(http).refuse.unwrap_or_default();
        let variable = why("headers: {request: {set: {x-a: '%REQ(b)%'}}}");
        assert_eq!(
            variable,
            "spec.http[0].headers: x-a: \"%REQ(b)%\": variables are not honoured; for a percent sign write %%"
        );
        assert!(why("headers: {response: {remove: [Content-Length]}}").contains("frames messages"));
        assert_eq!(why("headers: {request: {add: {x-a: '100%%'}}}"), "");
    }

    #[test]
    fn a_word_without_effect_is_told() {
        let told = report("retries: {attempts: 1, retryOn: 'unknown,5xx'}").unhonoured;
        assert_eq!(told.len(), 1);
        assert!(told[0].why.starts_with("unknown has no effect"), "{told:?}");
    }
}
