//! `hawser ca`: the roots that members trust, and a new one in the place of the one that signs.

use std::path::Path;

use hawser_api::proto::admin::{self, RotateRootRequest, StatusRequest};
use serde::Serialize;

use super::call;
use crate::args::Ca;
use crate::failure::Outcome;
use crate::output::{self, Format, Row, time};
use crate::{connect, exit};

pub(super) async fn run(socket: Option<&Path>, format: Format, verb: Ca) -> Outcome {
    let mut admin = connect::admin(socket).await?;
    let roots = match verb {
        Ca::List => admin.status(call(StatusRequest {})).await?.into_inner().roots,
        Ca::Rotate => {
            let roots = admin.rotate_root(call(RotateRootRequest {})).await?.into_inner().roots;
            eprintln!("a new root signs; hosts that are connected get certificates of it within ten minutes");
            roots
        }
    };
    let rows: Vec<Root> = roots.into_iter().map(Root::of).collect();
    output::list(format, &rows)?;
    Ok(exit::OK)
}

/// A root that members trust.
#[derive(Serialize)]
pub(super) struct Root {
    /// Base64 of SHA-256 of its public key.
    pin: String,
    not_after: Option<String>,
    signing: bool,
    /// When a former one is forgotten.
    trusted_until: Option<String>,
    #[serde(skip)]
    life: String,
    #[serde(skip)]
    trusted: String,
}

impl Root {
    pub(super) fn of(r: admin::Root) -> Self {
        Self {
            life: time::relative(r.not_after),
            trusted: r.trusted_until.map(|until| time::relative(Some(until))).unwrap_or_default(),
            pin: r.pin,
            not_after: time::text(r.not_after),
            signing: r.signing,
            trusted_until: time::text(r.trusted_until),
        }
    }

    /// In a line.
    pub(super) fn line(&self) -> String {
        let signing = if self.signing { ", signs" } else { "" };
        let former = if self.trusted.is_empty() { String::new() } else { format!(", forgotten {}", self.trusted) };
        format!("{} ends {}{signing}{former}", self.pin, self.life)
    }
}

impl Row for Root {
    const TITLES: &'static [&'static str] = &["PIN", "SIGNS", "ENDS", "FORGOTTEN"];

    fn cells(&self) -> Vec<String> {
        let signs = if self.signing { "yes" } else { "no" };
        vec![self.pin.clone(), signs.to_owned(), self.life.clone(), self.trusted.clone()]
    }
}
