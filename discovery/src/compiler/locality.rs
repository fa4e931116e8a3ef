//! Which endpoints callers prefer for where these are: shares between localities, or one after the other when they fail.
//!
//! In: the endpoints of a cluster, where the caller is, what rules say. Out: priorities and weights of localities. The
//! rules are Istio's: shares count whenever they are said; nearness counts where failures are noticed
//! (`outlierDetection`), for without that nobody would ever go on to what is far.

use std::collections::BTreeMap;

use hawser_api::istio::destination_rule::LocalityLoadBalancerSetting;
use hawser_mesh::Locality;

/// Labels that say where a workload is.
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUB_ZONE: &str = "topology.istio.io/subzone";

/// The caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) locality: Option<&'a Locality>,
    pub(super) labels: &'a BTreeMap<String, String>,
}

/// What decides for a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preference<'a> {
    /// All are alike.
    None,
    /// The caller's shares, by locality of endpoints.
    Shares(&'a BTreeMap<String, u32>),
    /// The nearest first; regions that stand in for others.
    Nearest(Option<&'a LocalityLoadBalancerSetting>),
    /// Those that have more of these labels in common with the caller first.
    Labels(&'a [String]),
}

impl<'a> Preference<'a> {
    /// Of a cluster's rule; `noticed` says that failures are.
    pub(super) fn of(setting: Option<&'a LocalityLoadBalancerSetting>, noticed: bool, caller: Caller<'_>) -> Self {
        if setting.is_some_and(|s| s.enabled == Some(false)) {
            return Self::None;
        }
        if let Some(setting) = setting.filter(|s| !s.distribute.is_empty()) {
            let own = caller.locality.filter(|own| !own.region.is_empty());
            let rule = setting.distribute.iter().find(|d| own.is_some_and(|own| within(own, &d.from)));
            return rule.map_or(Self::None, |rule| Self::Shares(&rule.to));
        }
        match setting {
            _ if !noticed => Self::None,
            Some(setting) if !setting.failover_priority.is_empty() => Self::Labels(&setting.failover_priority),
            setting => Self::Nearest(setting),
        }
    }

    /// The priority of an endpoint before gaps are closed; 0 is first.
    pub(super) fn rank(&self, caller: Caller<'_>, at: &Locality, labels: &BTreeMap<String, String>) -> u32 {
        match self {
            Self::None | Self::Shares(_) => 0,
            Self::Nearest(setting) => nearness(caller.locality, at, *setting),
            Self::Labels(names) => {
                let same = names.iter().take_while(|name| in_common(name, caller, at, labels)).count();
                u32::try_from(names.len() - same).unwrap_or(u32::MAX)
            }
        }
    }
}

fn nearness(own: Option<&Locality>, other: &Locality, setting: Option<&LocalityLoadBalancerSetting>) -> u32 {
    let Some(own) = own.filter(|own| !own.region.is_empty()) else { return 0 };
    if own.region != other.region {
        let stand_in = setting.and_then(|s| s.failover.iter().find(|f| f.from == own.region));
        return if stand_in.is_none_or(|f| f.to == other.region) { 3 } else { 4 };
    }
    if own.zone != other.zone {
        2
    } else if own.sub_zone != other.sub_zone {
        1
    } else {
        0
    }
}

/// `key`, of which both have the same value, or `key=value`, which the endpoint has.
fn in_common(name: &str, caller: Caller<'_>, at: &Locality, labels: &BTreeMap<String, String>) -> bool {
    let (key, wanted) = name.split_once('=').map_or((name, None), |(key, value)| (key, Some(value)));
    let own = wanted.or_else(|| label(key, caller.locality, caller.labels));
    own.is_some() && own == label(key, Some(at), labels)
}

fn label<'a>(key: &str, at: Option<&'a Locality>, labels: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let placed = at.and_then(|at| match key {
        REGION => Some(at.region.as_str()),
        ZONE => Some(at.zone.as_str()),
        SUB_ZONE => Some(at.sub_zone.as_str()),
        _ => None,
    });
    placed.filter(|text| !text.is_empty()).or_else(|| labels.get(key).map(String::as_str))
}

/// Whether a locality is within `region/zone/sub-zone`, of which the last that is said may be `*`.
pub(super) fn within(locality: &Locality, pattern: &str) -> bool {
    let mut parts = pattern.split('/');
    for own in [&locality.region, &locality.zone, &locality.sub_zone] {
        match parts.next() {
            None | Some("*") => return true,
            Some(part) if part == own => {}
            Some(_) => return false,
        }
    }
    true
}

/// The weight of each of `localities` by the caller's shares: those of one share split it by their own weights; `None`
/// are left out.
pub(super) fn weights(shares: &BTreeMap<String, u32>, localities: &[(&Locality, u32)]) -> Vec<Option<u32>> {
    let mut all = vec![None; localities.len()];
    // What is said more precisely takes what it means first.
    let mut order: Vec<(&String, &u32)> = shares.iter().collect();
    order.sort_by_key(|(to, _)| (std::cmp::Reverse(to.split('/').filter(|part| *part != "*").count()), (*to).clone()));
    for (to, share) in order {
        let meant: Vec<usize> =
            (0..localities.len()).filter(|i| all[*i].is_none() && within(localities[*i].0, to)).collect();
        let sum: u64 = meant.iter().map(|i| u64::from(localities[*i].1.max(1))).sum();
        for index in meant {
            let part = (u64::from(*share) * u64::from(localities[index].1.max(1))).div_ceil(sum.max(1));
            all[index] = Some(u32::try_from(part).unwrap_or(u32::MAX));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Locality {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), sub_zone: next() }
    }

    fn setting(yaml: &str) -> LocalityLoadBalancerSetting {
        serde_json::from_str(yaml).unwrap()
    }

    #[test]
    fn the_nearest_come_first_and_then_the_region_that_stands_in() {
        let own = at("r1/z1/s1");
        let none = BTreeMap::new();
        let caller = Caller { locality: Some(&own), labels: &none };
        let said = setting(r#"{"failover": [{"from": "r1", "to": "r3"}]}"#);
        let rank = |other: &str| Preference::of(Some(&said), true, caller).rank(caller, &at(other), &none);
        assert_eq!(["r1/z1/s1", "r1/z1/s2", "r1/z2", "r3", "r2"].map(rank), [0, 1, 2, 3, 4]);
        assert!(matches!(Preference::of(Some(&said), false, caller), Preference::None), "nobody would go on");
        let off = setting(r#"{"enabled": false}"#);
        assert!(matches!(Preference::of(Some(&off), true, caller), Preference::None));
    }

    #[test]
    fn labels_in_common_count_in_their_order() {
        let own = at("r1/z1");
        let mine = BTreeMap::from([("version".to_owned(), "v1".to_owned())]);
        let caller = Caller { locality: Some(&own), labels: &mine };
        let said = setting(r#"{"failoverPriority": ["topology.kubernetes.io/region", "version", "tier=gold"]}"#);
        let rank = |other: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Preference::of(Some(&said), true, caller).rank(caller, &at(other), &labels)
        };
        assert_eq!(rank("r1", &[("version", "v1"), ("tier", "gold")]), 0);
        assert_eq!(rank("r1", &[("version", "v1")]), 1);
        assert_eq!(rank("r1", &[("tier", "gold")]), 2, "a gap ends it");
        assert_eq!(rank("r2", &[("version", "v1")]), 3);
    }

    #[test]
    fn shares_are_split_by_weight_and_what_has_none_is_left_out() {
        let (a, b, c, d) = (at("r1/z1"), at("r1/z2"), at("r2/z1"), at("r3"));
        let shares = BTreeMap::from([("r1/*".to_owned(), 80), ("r2".to_owned(), 20)]);
        assert_eq!(weights(&shares, &[(&a, 1), (&b, 3), (&c, 5), (&d, 1)]), [Some(20), Some(60), Some(20), None]);
        assert!(within(&a, "*") && within(&a, "r1/z1") && !within(&a, "r1/z2") && !within(&d, "r1"));
    }
}
