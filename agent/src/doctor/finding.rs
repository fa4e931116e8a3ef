//! What one look gave, and what a join makes of several.

use hawser_api::proto::agent;
use tonic::Code;

use crate::refusal::Refusal;

pub(crate) use hawser_api::proto::agent::finding::Verdict;

/// Longer sentences are cut: some of what they quote is others' word.
const LONGEST: usize = 400;

/// What one look at the host gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) sentence: String,
    pub(crate) cure: String,
    /// The word for a join that fails because of it.
    reason: &'static str,
}

impl Finding {
    /// It is as it should be.
    pub(super) fn ok(check: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, sentence.into(), String::new())
    }

    /// It can't be known from here.
    pub(super) fn unknown(check: &'static str, sentence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(check, Verdict::Unknown, sentence.into(), cure.into())
    }

    /// It works, and somebody should know.
    pub(super) fn warning(check: &'static str, sentence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, sentence.into(), cure.into())
    }

    /// It does not work like this.
    pub(super) fn failure(check: &'static str, sentence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(check, Verdict::Failure, sentence.into(), cure.into())
    }

    /// A failure from a sentence that holds its cure behind a colon.
    pub(super) fn split(check: &'static str, text: &str) -> Self {
        let (sentence, cure) = text.split_once(": ").unwrap_or((text, "the agent's log says more"));
        Self::failure(check, sentence, cure)
    }

    /// The same with the word for a join that fails because of it.
    pub(super) fn blamed(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    fn new(check: &'static str, verdict: Verdict, sentence: String, cure: String) -> Self {
        Self { check, verdict, sentence: bounded(&sentence), cure: bounded(&cure), reason: "preflight-failed" }
    }
}

/// Why a host can't join, if it can't: the first failure with its cure, and how many more there are.
pub(crate) fn refusal(findings: &[Finding]) -> Option<Refusal> {
    let mut failures = findings.iter().filter(|finding| finding.verdict == Verdict::Failure);
    let first = failures.next()?;
    let more = match failures.count() {
        0 => String::new(),
        more => format!(" ({more} more: run `hawser doctor` with the same token)"),
    };
    let code = match first.reason {
        "discovery-unreachable" => Code::Unavailable,
        "discovery-not-trusted" => Code::PermissionDenied,
        _ => Code::FailedPrecondition,
    };
    Some(Refusal::new(code, first.reason, format!("{}: {}{more}", first.sentence, first.cure)))
}

impl From<Finding> for agent::Finding {
    fn from(finding: Finding) -> Self {
        Self {
            check: finding.check.to_owned(),
            verdict: finding.verdict.into(),
            sentence: finding.sentence,
            cure: finding.cure,
        }
    }
}

/// One line of what may be somebody else's.
fn bounded(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = plain.take(LONGEST + 1).collect();
    if let Some((end, _)) = out.char_indices().nth(LONGEST) {
        out.truncate(end);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_is_refused_by_the_first_failure_and_told_its_cure() {
        let findings = [
            Finding::ok("kernel", "good"),
            Finding::warning("firewall", "careful", "look"),
            Finding::unknown("inbound", "not yet", ""),
            Finding::failure("ports", "port 15001 is taken", "stop it"),
            Finding::failure("discovery", "away", "start it").blamed("discovery-unreachable"),
        ];
        let refusal = refusal(&findings).unwrap();
        assert_eq!(refusal.reason, "preflight-failed");
        assert!(refusal.sentence.starts_with("port 15001 is taken: stop it (1 more"), "{refusal}");
        assert_eq!(super::refusal(&findings[..3]), None);
        let away = super::refusal(&findings[4..]).unwrap();
        assert_eq!((away.code, away.reason.as_str()), (Code::Unavailable, "discovery-unreachable"));
    }

    #[test]
    fn a_sentence_is_one_line_and_has_an_end() {
        let long = Finding::split("nft", &format!("a\nb\u{1b}: {}", "é".repeat(1000)));
        assert_eq!(long.sentence, "a b ");
        assert_eq!(long.cure.chars().count(), LONGEST + 1);
    }
}
