//! What a table of nftables makes of a new connection to a port of the host, from outside, over IPv4.
//!
//! In: the table as `nft -j` lists it. Out: whether it is let in, for sure, for sure not, or depending on what is not known
//! here: who comes, by which interface, what a set holds, what only another program can read. Rules that can't be understood
//! count as such; nothing is guessed.

use serde_json::Value;

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    LetIn,
    Kept,
    Depends,
}

/// Of a base chain's policy that is not `accept`.
const DROP: &str = "drop";
/// As deep as the kernel lets chains jump.
const DEEPEST: usize = 16;
/// More rules than anybody writes; a table with loops ends here.
const MOST_RULES: usize = 50_000;

/// Follows a connection to `port` through the chain `name`.
pub(super) fn through(table: &Value, name: &str, port: u16) -> Passage {
    let objects = table["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let policy = objects.iter().find_map(|object| Some(&object["chain"]).filter(|chain| chain["name"] == name));
    let mut walk = Walk { objects, port, left: MOST_RULES };
    let mut ways = walk.chain(name, 0);
    if ways.on {
        match policy.is_some_and(|chain| chain["policy"] == DROP) {
            true => ways.kept = true,
            false => ways.let_in = true,
        }
    }
    match (ways.let_in, ways.kept) {
        (true, false) => Passage::LetIn,
        (false, true) => Passage::Kept,
        _ => Passage::Depends,
    }
}

/// What may come of it.
#[derive(Clone, Copy, Debug, Default)]
struct Ways {
    let_in: bool,
    kept: bool,
    /// It goes on with the next rule.
    on: bool,
}

impl Ways {
    const ON: Self = Self { let_in: false, kept: false, on: true };
    const ANY: Self = Self { let_in: true, kept: true, on: true };

    /// Either of both.
    fn or(self, other: Self) -> Self {
        Self { let_in: self.let_in || other.let_in, kept: self.kept || other.kept, on: self.on || other.on }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Perhaps,
}

impl Truth {
    fn of(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Perhaps => Self::Perhaps,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Perhaps,
        }
    }
}

struct Walk<'a> {
    objects: &'a [Value],
    port: u16,
    left: usize,
}

impl<'a> Walk<'a> {
    /// Through all rules of a chain; `on` is its end, or a return.
    fn chain(&mut self, name: &str, depth: usize) -> Ways {
        if depth > DEEPEST {
            return Ways::ANY;
        }
        let objects: &'a [Value] = self.objects;
        let rules = objects.iter().filter_map(|object| object.get("rule")).filter(|rule| rule["chain"] == name);
        let mut ways = Ways::ON;
        let mut returned = false;
        for rule in rules {
            if !ways.on {
                break;
            }
            if self.left == 0 {
                return Ways::ANY;
            }
            self.left -= 1;
            let (of_rule, returns) = self.rule(rule, depth);
            returned |= returns;
            ways = Ways { on: false, ..ways }.or(of_rule);
        }
        Ways { on: ways.on || returned, ..ways }
    }

    /// What one rule does, and whether it may return to where the chain was called from.
    fn rule(&mut self, rule: &Value, depth: usize) -> (Ways, bool) {
        let mut matches = Truth::Yes;
        let mut returned = false;
        let expressions = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        for expression in expressions {
            let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
            let ways = match kind.as_str() {
                "match" => {
                    matches = matches.and(self.matches(value));
                    None
                }
                "counter" | "log" | "comment" | "mangle" | "notrack" | "meter" => None,
                "vmap" => Some(self.verdict_map(value, depth)),
                "return" => Some((Ways::default(), true)),
                "accept" | "drop" | "reject" | "jump" | "goto" | "continue" => Some(self.verdict(kind, value, depth)),
                _ => {
                    matches = matches.and(Truth::Perhaps);
                    None
                }
            };
            if matches == Truth::No {
                return (Ways::ON, returned);
            }
            if let Some((ways, returns)) = ways {
                returned |= returns;
                let surely = matches == Truth::Yes;
                return (if surely { ways } else { ways.or(Ways::ON) }, returned);
            }
        }
        (Ways::ON, returned)
    }

    fn verdict(&mut self, kind: &str, value: &Value, depth: usize) -> (Ways, bool) {
        let target = value["target"].as_str().unwrap_or_default();
        match kind {
            "accept" => (Ways { let_in: true, ..Ways::default() }, false),
            "drop" | "reject" => (Ways { kept: true, ..Ways::default() }, false),
            "continue" => (Ways::ON, false),
            "return" => (Ways::default(), true),
            "jump" => (self.chain(target, depth + 1), false),
            // Its end is the end of the chain that went there.
            "goto" => {
                let ways = self.chain(target, depth + 1);
                (Ways { on: false, ..ways }, ways.on)
            }
            _ => (Ways::ANY, false),
        }
    }

    /// The verdict of a map's element that is met; any of them where that is not known.
    fn verdict_map(&mut self, map: &Value, depth: usize) -> (Ways, bool) {
        let Some(elements) = map["data"]["set"].as_array() else { return (Ways::ANY, true) };
        let (mut ways, mut returned, mut met) = (Ways::default(), false, Truth::No);
        for element in elements {
            let truth = self.compare(&map["key"], &element[0]);
            let verdict = element[1].as_object().and_then(|verdict| verdict.iter().next());
            let (Some((kind, value)), false) = (verdict, truth == Truth::No) else { continue };
            let (of_element, returns) = self.verdict(kind, value, depth);
            (ways, returned) = (ways.or(of_element), returned || returns);
            if truth == Truth::Yes {
                met = Truth::Yes;
                break;
            }
            met = Truth::Perhaps;
        }
        (if met == Truth::Yes { ways } else { ways.or(Ways::ON) }, returned)
    }

    fn matches(&self, value: &Value) -> Truth {
        let truth = self.compare(&value["left"], &value["right"]);
        match value["op"].as_str() {
            Some("==" | "in") => truth,
            Some("!=") => truth.not(),
            _ => Truth::Perhaps,
        }
    }

    /// Whether what `left` reads of the connection is, or is among, `right`.
    fn compare(&self, left: &Value, right: &Value) -> Truth {
        let word = |words: &'static [&'static str]| among(right, &|value| value.as_str().map(|w| words.contains(&w)));
        let Some((kind, what)) = left.as_object().and_then(|object| object.iter().next()) else {
            return Truth::Perhaps;
        };
        let field = |name: &str| what[name].as_str().unwrap_or_default();
        match kind.as_str() {
            "payload" => match (field("protocol"), field("field")) {
                ("tcp" | "th", "dport") => among(right, &|value| Some(value.as_u64()? == u64::from(self.port))),
                ("ip", "protocol") => self.compare_protocol(right),
                (
                    "udp" | "udplite" | "dccp" | "sctp" | "icmp" | "icmpv6" | "igmp" | "esp" | "ah" | "ip6" | "arp",
                    _,
                ) => Truth::No,
                _ => Truth::Perhaps,
            },
            "meta" => match field("key") {
                "l4proto" => self.compare_protocol(right),
                "nfproto" => word(&["ipv4"]),
                "protocol" => word(&["ip"]),
                // From outside; by which interface is not known.
                "iifname" | "iif" if right == "lo" => Truth::No,
                "pkttype" => word(&["host", "unicast"]),
                _ => Truth::Perhaps,
            },
            "ct" if field("key") == "state" => word(&["new"]),
            "fib" if what["result"] == "type" && what["flags"] == serde_json::json!(["daddr"]) => word(&["local"]),
            _ => Truth::Perhaps,
        }
    }

    fn compare_protocol(&self, right: &Value) -> Truth {
        among(right, &|value| Some(value == "tcp" || value.as_u64() == Some(6)))
    }
}

/// Whether a value is one that `is` takes, or a list that has one. What can't be read may be.
fn among(right: &Value, is: &dyn Fn(&Value) -> Option<bool>) -> Truth {
    let any = |values: &[Value]| {
        let mut truth = Truth::No;
        for value in values {
            match among(value, is) {
                Truth::Yes => return Truth::Yes,
                Truth::Perhaps => truth = Truth::Perhaps,
                Truth::No => {}
            }
        }
        truth
    };
    match right {
        Value::Array(values) => any(values),
        Value::String(name) if name.starts_with('@') => Truth::Perhaps,
        Value::Object(object) => match object.iter().next() {
            Some((kind, Value::Array(values))) if kind == "set" => any(values),
            Some((kind, Value::Array(ends))) if kind == "range" => between(ends, is),
            Some((kind, element)) if kind == "elem" => among(&element["val"], is),
            _ => Truth::Perhaps,
        },
        value => is(value).map_or(Truth::Perhaps, Truth::of),
    }
}

/// A range of numbers: whether one of them is taken.
fn between(ends: &[Value], is: &dyn Fn(&Value) -> Option<bool>) -> Truth {
    let number = |at: usize| ends.get(at).and_then(Value::as_u64).filter(|number| *number <= u64::from(u16::MAX));
    let (Some(first), Some(last)) = (number(0), number(1)) else { return Truth::Perhaps };
    Truth::of((first..=last).any(|number| is(&number.into()) == Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A table with one input chain of policy `drop` and these rules, and a chain `more`.
    fn table(input: &[Value], more: &[Value]) -> Value {
        let mut objects = vec![
            json!({"chain": {"name": "input", "hook": "input", "policy": "drop"}}),
            json!({"chain": {"name": "more"}}),
        ];
        let rule = |chain: &str, expr: &Value| json!({"rule": {"chain": chain, "expr": expr}});
        objects.extend(input.iter().map(|expr| rule("input", expr)));
        objects.extend(more.iter().map(|expr| rule("more", expr)));
        json!({ "nftables": objects })
    }

    fn dport(right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}})
    }

    fn meta(key: &str, right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}})
    }

    fn state(right: Value) -> Value {
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}})
    }

    fn accept() -> Value {
        json!({"accept": null})
    }

    #[test]
    fn a_named_port_is_let_in_and_another_is_kept() {
        let rules = [
            json!([meta("iifname", json!("lo")), accept()]),
            json!([state(json!(["established", "related"])), accept()]),
            json!([state(json!("invalid")), {"drop": null}]),
            json!([meta("l4proto", json!({"set": ["icmp", "ipv6-icmp"]})), accept()]),
            json!([dport(json!({"set": [22, {"range": [9000, 9100]}]})), {"counter": {"packets": 1}}, accept()]),
        ];
        let table = table(&rules, &[]);
        for (port, passage) in
            [(22, Passage::LetIn), (9080, Passage::LetIn), (9101, Passage::Kept), (80, Passage::Kept)]
        {
            assert_eq!(through(&table, "input", port), passage, "{port}");
        }
    }

    #[test]
    fn what_is_not_known_here_is_not_guessed() {
        let from = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                                     "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}});
        let unknown: [Value; 5] = [
            json!([from, dport(json!(9080)), accept()]),
            json!([meta("iifname", json!("eth0")), accept()]),
            json!([dport(json!("@allowed")), accept()]),
            json!([{"xt": {"type": "match", "name": "tcp"}}, accept()]),
            json!([{"limit": {"rate": 5}}, accept()]),
        ];
        for rule in unknown {
            assert_eq!(through(&table(std::slice::from_ref(&rule), &[]), "input", 9080), Passage::Depends, "{rule}");
        }
        let other = json!([from, dport(json!(80)), accept()]);
        assert_eq!(through(&table(&[other], &[]), "input", 9080), Passage::Kept, "it is not for this port at all");
    }

    #[test]
    fn jumps_returns_and_maps_are_followed() {
        let jump = json!([{"jump": {"target": "more"}}]);
        let goto = json!([{"goto": {"target": "more"}}]);
        let last = json!([accept()]);
        let open = [json!([dport(json!(9080)), accept()]), json!([{"return": null}]), json!([{"drop": null}])];
        for (rules, port, passage) in [
            (vec![jump.clone()], 9080, Passage::LetIn),
            (vec![jump.clone()], 80, Passage::Kept),
            (vec![jump, last.clone()], 80, Passage::LetIn),
            (vec![goto, last], 80, Passage::Kept),
        ] {
            assert_eq!(through(&table(&rules, &open), "input", port), passage, "{rules:?} {port}");
        }
        let key = json!({"payload": {"protocol": "tcp", "field": "dport"}});
        let map = json!([{"vmap": {"key": key, "data": {"set": [[22, {"drop": null}], [9080, {"accept": null}]]}}}]);
        assert_eq!(through(&table(std::slice::from_ref(&map), &[]), "input", 9080), Passage::LetIn);
        assert_eq!(through(&table(&[map], &[]), "input", 80), Passage::Kept);
        let states = json!([{"vmap": {"key": {"ct": {"key": "state"}},
                                       "data": {"set": [["invalid", {"drop": null}], ["established", {"accept": null}]]}}}]);
        assert_eq!(through(&table(&[states], &[]), "input", 80), Passage::Kept);
    }

    #[test]
    fn loops_and_nonsense_come_to_an_end() {
        let looped = table(&[json!([{"jump": {"target": "more"}}])], &[json!([{"jump": {"target": "more"}}])]);
        assert_eq!(through(&looped, "input", 80), Passage::Depends);
        for nonsense in [json!(null), json!({"nftables": 3}), json!({"nftables": [{"rule": {"chain": "input"}}]})] {
            assert_eq!(through(&nonsense, "input", 80), Passage::LetIn, "no chain keeps anybody out");
        }
    }
}
