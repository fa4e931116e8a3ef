//! The recordings.

use serde_json::Value;

/// One exchange.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) answered: Value,
    pub(crate) answer_headers: Value,
}

/// The exchanges of a file.
pub(crate) fn read(file: &str) -> Vec<Exchange> {
    let path = format!("{}/recordings/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let all: Vec<Value> = if file.ends_with('l') {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    } else {
        serde_json::from_str(&text).unwrap()
    };
    all.iter().filter(|x| x["response"]["status"].is_u64()).map(exchange).collect()
}

fn exchange(x: &Value) -> Exchange {
    let headers = x["request"]["headers"].as_object().into_iter().flatten();
    Exchange {
        name: x["name"].as_str().unwrap().to_owned(),
        method: x["request"]["method"].as_str().unwrap().to_owned(),
        path: x["request"]["path"].as_str().unwrap().to_owned(),
        headers: headers.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect(),
        body: x["request"]["body"].clone(),
        status: u16::try_from(x["response"]["status"].as_u64().unwrap()).unwrap(),
        answered: x["response"]["body"].clone(),
        answer_headers: x["response"]["headers"].clone(),
    }
}

/// One of them by its name.
pub(crate) fn named<'x>(all: &'x [Exchange], name: &str) -> &'x Exchange {
    all.iter().find(|x| x.name == name).unwrap_or_else(|| panic!("no recording {name}"))
}
