//! Exit codes: stable, one for each reason that a script may want to tell from others.

/// Done.
pub(crate) const OK: u8 = 0;
/// It went wrong, and no other code says how.
pub(crate) const FAILURE: u8 = 1;
/// The command line can't be understood.
pub(crate) const USAGE: u8 = 2;
/// The socket of the agent or of discovery does not answer, or does not let the caller in.
pub(crate) const NO_SOCKET: u8 = 3;
/// Input was refused: a file, a token, a value.
pub(crate) const INVALID: u8 = 4;
/// What was named is not there.
pub(crate) const NOT_FOUND: u8 = 5;
/// `redirect check`: what is loaded is not what should be.
pub(crate) const DIFFERS: u8 = 6;

/// `why`: the call would not be served.
pub(crate) const NOT_SERVED: u8 = 7;
/// `doctor`: something has to be mended.
pub(crate) const UNFIT: u8 = 8;

/// A reason that the mesh gives for a refusal, its code, what it means and what helps.
pub(crate) struct Reason {
    /// The word in the answer's metadata `hawser-reason`.
    pub(crate) word: &'static str,
    /// Exit code.
    pub(crate) code: u8,
    /// One sentence, when the answer itself brings none.
    pub(crate) sentence: &'static str,
    /// The cure.
    pub(crate) hint: &'static str,
}

const fn reason(word: &'static str, code: u8, sentence: &'static str, hint: &'static str) -> Reason {
    Reason { word, code, sentence, hint }
}

const NEW_TOKEN: &str = "make a new token on the control host: hawser token create --group <namespace>/<group>";

/// Every reason, in the order of their codes.
pub(crate) const REASONS: [Reason; 23] = [
    reason("token-unknown", 10, "discovery does not know this join token", NEW_TOKEN),
    reason("token-expired", 11, "the join token has expired", NEW_TOKEN),
    reason("token-used-up", 12, "every use of the join token is spent", NEW_TOKEN),
    reason("token-revoked", 13, "the join token was revoked", NEW_TOKEN),
    reason(
        "source-refused",
        14,
        "the join token does not let hosts join from this address",
        "join from an address inside the token's --source, or make a token for this one",
    ),
    reason(
        "host-cloned",
        15,
        "another host uses this host's key: one of the two is a copy",
        "on the copy, run `hawser leave --force`, then join it with a token of its own",
    ),
    reason(
        "host-revoked",
        16,
        "this host's record was revoked",
        "run `hawser leave --force`, then join with a new token, if the host is to come back",
    ),
    reason(
        "host-unknown",
        17,
        "discovery has no record of this host",
        "run `hawser leave --force`, then join with a new token",
    ),
    reason(
        "rejoin-window-passed",
        18,
        "the host was away for longer than the rejoin window",
        "run `hawser leave --force`, then join with a new token",
    ),
    reason(
        "signature-invalid",
        19,
        "discovery could not verify the host key's signature",
        "nothing on this host needs a change; see whether something terminates TLS between it and discovery",
    ),
    reason(
        "group-unknown",
        20,
        "the token's group does not exist any more",
        "apply the WorkloadGroup again, or make a token with --port",
    ),
    reason(
        "policy-not-enforceable",
        21,
        "a security policy selects this group, and it can't be enforced yet",
        "see `hawser get config` on the control host for the policy and the field",
    ),
    reason(
        "address-refused",
        22,
        "the announced address can't be used",
        "name the one that other hosts reach this one by: hawser join --address <ip>",
    ),
    reason(
        "discovery-not-trusted",
        23,
        "what answers at discovery's address is not the discovery that made the token; the secret was not sent",
        "see that the address is right, and make a new token if discovery got a new root",
    ),
    reason(
        "discovery-unreachable",
        24,
        "discovery can't be reached from this host",
        "see that this host may connect to discovery's port 15012",
    ),
    reason("already-joined", 25, "this host is joined already, with another token's group", "run `hawser leave` first"),
    reason(
        "rolled-back",
        26,
        "the new redirection cut something off, and was taken back",
        "see `hawser redirect plan` and the host's own firewall",
    ),
    reason("not-joined", 27, "this host has not joined", "join it first: hawser join <token>"),
    reason("proxy-missing", 28, "the proxy's program is not where the agent looks", "install hawser-proxy"),
    reason("proxy-not-ready", 29, "the proxy did not become ready", "see the logs of hawser-agent and hawser-proxy"),
    reason(
        "cleanup-incomplete",
        30,
        "the host is out of the mesh, but something of it could not be taken back",
        "run `hawser leave` again",
    ),
    reason("busy", 31, "another join or leave is under way", "try again when it is done"),
    reason(
        "preflight-failed",
        32,
        "this host can't be a member as it is; nothing was changed",
        "run `hawser doctor` with the same token: it lists everything that has to be mended",
    ),
];

/// The reason by its word.
pub(crate) fn by_word(word: &str) -> Option<&'static Reason> {
    REASONS.iter().find(|r| r.word == word)
}

/// `hawser help exit-codes`.
pub(crate) fn page() -> String {
    let mut text =
        String::from("Exit codes of hawser. They do not change between versions; new ones may be added.\n\n");
    for (code, what) in [
        (OK, "done"),
        (FAILURE, "it went wrong, and no other code says how"),
        (USAGE, "the command line can't be understood"),
        (NO_SOCKET, "the socket of the agent or of discovery does not answer, or does not let you in"),
        (INVALID, "input was refused: a file, a token, a value"),
        (NOT_FOUND, "what was named is not there"),
        (DIFFERS, "redirect check: what is loaded is not what should be"),
        (NOT_SERVED, "why: the call would not be served"),
        (UNFIT, "doctor: something has to be mended"),
    ] {
        text.push_str(&format!("  {code:>2}  {what}\n"));
    }
    text.push_str("\nRefusals of a join, with the word that logs and -o json carry:\n\n");
    for r in &REASONS {
        text.push_str(&format!("  {:>2}  {:<23} {}\n", r.code, r.word, r.sentence));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_used_once() {
        let mut seen = BTreeSet::from([OK, FAILURE, USAGE, NO_SOCKET, INVALID, NOT_FOUND, DIFFERS, NOT_SERVED, UNFIT]);
        for r in &REASONS {
            assert!(seen.insert(r.code), "{} shares its code", r.word);
        }
    }

    #[test]
    fn the_page_for_users_lists_every_code() {
        let docs = include_str!("../../docs/exit-codes.md");
        for r in &REASONS {
            assert!(docs.contains(&format!("| {} | `{}` |", r.code, r.word)), "docs/exit-codes.md lacks {}", r.word);
        }
    }
}
