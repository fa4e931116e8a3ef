//! Which endpoint a caller takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::istio::Duration;
use crate::istio::check::{Checker, net, text};
use crate::istio::duration::at_least_1ms;
use crate::istio::message::{enumeration, message};

message! {
    /// Which endpoint a caller takes.
    pub struct LoadBalancerSettings [check_load_balancer] {
        /// By a simple rule.
        simple: Option<SimpleLb>,
        /// By a hash of the request.
        consistent_hash: Option<ConsistentHash>,
        /// By where endpoints are.
        locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        /// By zone.
        zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        /// Old form of `warmup.duration`.
        warmup_duration_secs: Option<Duration>,
        /// New endpoints get their share slowly.
        warmup: Option<WarmupConfiguration>,
    }

    /// By a hash of one thing of the request.
    pub struct ConsistentHash [check_hash] {
        /// A header.
        http_header_name: Option<String>,
        /// A cookie, made if there is none.
        http_cookie: Option<HttpCookie>,
        /// The caller's address.
        use_source_ip: Option<bool>,
        /// A parameter of the query.
        http_query_parameter_name: Option<String>,
        /// With a ring of hashes.
        ring_hash: Option<RingHash>,
        /// With Maglev's table.
        maglev: Option<MagLev>,
        /// Old form of `ringHash.minimumRingSize`.
        minimum_ring_size: u64,
    }

    /// A cookie.
    pub struct HttpCookie [check_cookie] {
        /// Name.
        name: String,
        /// Path of a cookie that is made.
        path: String,
        /// Life of a cookie that is made; 0 is the session.
        ttl: Option<Duration>,
        /// Further attributes of a cookie that is made.
        attributes: Vec<HttpCookieAttribute>,
    }

    /// An attribute of a cookie.
    pub struct HttpCookieAttribute [check_cookie_attribute] {
        /// Name.
        name: String,
        /// Value.
        value: String,
    }

    /// A ring of hashes.
    pub struct RingHash {
        /// Fewest virtual nodes.
        minimum_ring_size: u64,
    }

    /// Maglev's table.
    pub struct MagLev {
        /// Its size, a prime.
        table_size: u64,
    }

    /// By where endpoints are. One of `distribute`, `failover` and `failoverPriority`.
    pub struct LocalityLoadBalancerSetting [check_locality] {
        /// Shares between localities.
        distribute: Vec<Distribute>,
        /// Where to when a region fails.
        failover: Vec<Failover>,
        /// Labels, endpoints that share more of the first ones with the caller come first.
        failover_priority: Vec<String>,
        /// In place of the mesh's.
        enabled: Option<bool>,
    }

    /// Shares for callers of one locality.
    pub struct Distribute [check_distribute] {
        /// Locality of callers.
        from: String,
        /// Percentages by locality of endpoints, 100 together.
        to: BTreeMap<String, u32>,
    }

    /// Where to when a region fails.
    pub struct Failover [check_failover] {
        /// This region.
        from: String,
        /// That one.
        to: String,
    }

    /// By zone.
    pub struct ZoneAwareLoadBalancerSetting [check_zone_aware] {
        /// In place of the mesh's.
        enabled: Option<bool>,
        /// Where to when a region fails.
        failover: Vec<Failover>,
        /// Labels, endpoints that share more of the first ones with the caller come first.
        failover_priority: Vec<String>,
        /// Fewest endpoints for it to be used.
        min_cluster_size: Option<u64>,
    }

    /// New endpoints get their share slowly.
    pub struct WarmupConfiguration [check_warmup] {
        /// For how long.
        duration: Option<Duration>,
        /// Share at the start.
        minimum_percent: Option<f64>,
        /// Shape of the curve; 1 is a line.
        aggression: Option<f64>,
    }
}

enumeration! {
    /// Simple rules.
    pub enum SimpleLb {
        /// The mesh's default, as `LEAST_REQUEST`.
        Unspecified = "UNSPECIFIED",
        /// Old form of `LEAST_REQUEST`.
        LeastConn = "LEAST_CONN",
        /// Any.
        Random = "RANDOM",
        /// Where the connection was going.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The one of two with fewer requests.
        LeastRequest = "LEAST_REQUEST",
    }
}

fn check_load_balancer(settings: &LoadBalancerSettings, c: &mut Checker) {
    c.at_most_one(&[("simple", settings.simple.is_some()), ("consistentHash", settings.consistent_hash.is_some())]);
    c.at_most_one(&[
        ("localityLbSetting", settings.locality_lb_setting.is_some()),
        ("zoneAwareLbSetting", settings.zone_aware_lb_setting.is_some()),
    ]);
    c.at_most_one(&[
        ("warmup", settings.warmup.is_some()),
        ("warmupDurationSecs", settings.warmup_duration_secs.is_some()),
    ]);
    at_least_1ms(c, "warmup_duration_secs", settings.warmup_duration_secs);
}

fn check_hash(hash: &ConsistentHash, c: &mut Checker) {
    c.exactly_one(&[
        ("httpHeaderName", hash.http_header_name.is_some()),
        ("httpCookie", hash.http_cookie.is_some()),
        ("useSourceIp", hash.use_source_ip.is_some()),
        ("httpQueryParameterName", hash.http_query_parameter_name.is_some()),
    ]);
    c.at_most_one(&[("ringHash", hash.ring_hash.is_some()), ("maglev", hash.maglev.is_some())]);
    if let Some(name) = &hash.http_header_name {
        c.field("http_header_name", |c| text::tell(c, text::header_name(name)));
    }
    if hash.http_query_parameter_name.as_deref() == Some("") {
        c.required("http_query_parameter_name", false);
    }
    if let Some(ring) = hash.ring_hash.as_ref().filter(|ring| ring.minimum_ring_size > 8_388_608) {
        let message = format!("Invalid value: a ring of {} is larger than 8388608", ring.minimum_ring_size);
        c.field("ring_hash", |c| c.wrong("minimum_ring_size", message));
    }
    if let Some(maglev) = hash.maglev.as_ref().filter(|m| m.table_size > 5_000_011) {
        let message = format!("Invalid value: a table of {} is larger than 5000011", maglev.table_size);
        c.field("maglev", |c| c.wrong("table_size", message));
    }
}

fn check_cookie(cookie: &HttpCookie, c: &mut Checker) {
    c.required("name", !cookie.name.is_empty());
}

fn check_cookie_attribute(attribute: &HttpCookieAttribute, c: &mut Checker) {
    c.required("name", !attribute.name.is_empty());
}

fn check_locality(setting: &LocalityLoadBalancerSetting, c: &mut Checker) {
    c.at_most_one(&[("distribute", !setting.distribute.is_empty()), ("failover", !setting.failover.is_empty())]);
    c.at_most_one(&[
        ("distribute", !setting.distribute.is_empty()),
        ("failoverPriority", !setting.failover_priority.is_empty()),
    ]);
    let mut seen = BTreeSet::new();
    c.each("distribute", &setting.distribute, |c, distribute| {
        if !seen.insert(distribute.from.clone()) {
            c.wrong("from", "Duplicate value: this locality has two distributions");
        }
    });
}

fn check_distribute(distribute: &Distribute, c: &mut Checker) {
    if distribute.from.is_empty() {
        c.required("from", false);
    } else {
        c.field("from", |c| text::tell(c, net::locality(&distribute.from, true)));
    }
    c.field("to", |c| {
        for (locality, weight) in &distribute.to {
            c.key(locality, |c| {
                text::tell(c, net::locality(locality, true));
                if *weight == 0 || *weight > 100 {
                    c.problem(format!("Invalid value: {weight} is not from 1 to 100"));
                }
            });
        }
        let sum: u64 = distribute.to.values().map(|w| u64::from(*w)).sum();
        if sum != 100 {
            c.problem(format!("the shares add up to {sum}, not to 100"));
        }
    });
}

fn check_failover(failover: &Failover, c: &mut Checker) {
    for (field, region) in [("from", &failover.from), ("to", &failover.to)] {
        if region.is_empty() {
            c.required(field, false);
        } else if region.contains(['/', '*']) {
            c.wrong(field, "it is a region alone, without zone or '*'");
        }
    }
    if !failover.from.is_empty() && failover.from == failover.to {
        c.wrong("to", "a region can't fail over to itself");
    }
}

fn check_zone_aware(setting: &ZoneAwareLoadBalancerSetting, c: &mut Checker) {
    if setting.min_cluster_size == Some(0) {
        c.wrong("min_cluster_size", "Invalid value: 0 is less than 1");
    }
}

fn check_warmup(warmup: &WarmupConfiguration, c: &mut Checker) {
    if warmup.duration.is_none() {
        c.wrong("duration", "Required value: it is required");
    }
    at_least_1ms(c, "duration", warmup.duration);
    if let Some(percent) = warmup.minimum_percent {
        c.field("minimum_percent", |c| text::tell(c, net::percentage(percent)));
    }
    if let Some(aggression) = warmup.aggression.filter(|a| !(*a >= 0.0 && a.is_finite())) {
        c.wrong("aggression", format!("Invalid value: {aggression} is less than 0"));
    }
}
