//! The kernel and the program `nft`: whether they have what redirection needs.

use super::Finding;
use crate::redirect::{self, NftError};

const KERNEL: &str = "kernel";
const NFT: &str = "nft";
/// What is asked for; an older one that has what redirection needs is no reason to refuse a host.
const OLDEST_KERNEL: (u32, u32) = (5, 13);
/// The oldest nft that redirection is known to work with: Debian 11's.
const OLDEST_NFT: (u32, u32, u32) = (0, 9, 8);

/// Asks both.
pub(super) async fn findings() -> Vec<Finding> {
    let release = tokio::fs::read_to_string("/proc/sys/kernel/osrelease").await.unwrap_or_default();
    let (probed, version) = tokio::join!(redirect::probe(), redirect::nft_version());
    let mut findings = vec![kernel(release.trim(), &probed)];
    findings.push(match version {
        Ok(said) => nft(&said, &probed),
        Err(error) => refused(NFT, &error),
    });
    findings
}

/// Judges a kernel by its release and by what the probes met.
fn kernel(release: &str, probed: &Result<(), NftError>) -> Finding {
    match probed {
        Ok(()) if numbers(release).is_some_and(|(major, minor, _)| (major, minor) < OLDEST_KERNEL) => {
            let (major, minor) = OLDEST_KERNEL;
            let sentence = format!("Linux {release} is older than {major}.{minor}, the oldest that was tried");
            Finding::warning(KERNEL, sentence, format!("run Linux {major}.{minor} or later"))
        }
        Ok(()) => Finding::ok(KERNEL, format!("Linux {release} has what redirection needs")),
        Err(error @ NftError::Kernel { .. }) => Finding::split(KERNEL, &error.to_string()),
        Err(_) => Finding::unknown(
            KERNEL,
            format!("what Linux {release} has for redirection can't be tried without nft"),
            "see what is said of nft",
        ),
    }
}

/// Judges an nft by its version and by what the probes met.
fn nft(said: &str, probed: &Result<(), NftError>) -> Finding {
    let version = said.split_ascii_whitespace().find_map(numbers);
    match (probed, version) {
        (Err(error), _) if !matches!(error, NftError::Kernel { .. }) => refused(NFT, error),
        (_, Some(version)) if version < OLDEST_NFT => {
            let (major, minor, patch) = OLDEST_NFT;
            let sentence = format!("nft is older than {major}.{minor}.{patch}, the oldest that was tried");
            Finding::warning(NFT, sentence, "install a newer nftables, or look closely at `hawser redirect check`")
        }
        _ => Finding::ok(NFT, format!("{} speaks JSON", said.trim())),
    }
}

fn refused(check: &'static str, error: &NftError) -> Finding {
    let finding = Finding::split(check, &error.to_string());
    if matches!(error, NftError::NotPermitted) && !nix::unistd::geteuid().is_root() {
        return Finding::unknown(check, finding.sentence, "start hawser-agent, which may, or use sudo");
    }
    if matches!(error, NftError::Refused(_) | NftError::Io(_)) {
        return Finding::failure(check, error.to_string(), "see that it works by hand: sudo nft list tables");
    }
    finding
}

/// `v1.0.9` and `6.1.0-18-amd64`: the first two or three numbers.
fn numbers(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let digits = |part: &str| -> Option<u32> {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    };
    let mut parts = text.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, digits(parts.next()?)?);
    Some((major, minor, parts.next().and_then(digits).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn an_old_kernel_and_one_without_modules_are_told_with_their_cure() {
        assert_eq!(kernel("6.1.0-18-amd64", &Ok(())).verdict, Verdict::Ok);
        assert_eq!(kernel("5.13", &Ok(())).verdict, Verdict::Ok);
        assert_eq!(kernel("5.10.0-28-amd64", &Ok(())).verdict, Verdict::Warning);
        let lacks = NftError::Kernel { what: "tproxy", module: "nft_tproxy", config: "CONFIG_NFT_TPROXY" };
        let finding = kernel("5.10.0", &Err(lacks));
        assert_eq!(finding.verdict, Verdict::Failure);
        assert!(finding.cure.contains("nft_tproxy"), "{finding:?}");
        assert_eq!(kernel("6.1.0", &Err(NftError::Missing)).verdict, Verdict::Unknown);
        assert_eq!(kernel("", &Ok(())).verdict, Verdict::Ok, "what can't be read is no reason");
    }

    #[test]
    fn nft_is_judged_by_its_version_and_by_json() {
        assert_eq!(nft("nftables v1.0.6 (Lester Gooch #5)", &Ok(())).verdict, Verdict::Ok);
        assert_eq!(nft("nftables v0.9.3 (Topsy)", &Ok(())).verdict, Verdict::Warning);
        let finding = nft("nftables v1.0.6", &Err(NftError::NoJson));
        assert_eq!(finding.verdict, Verdict::Failure);
        assert!(finding.cure.starts_with("install"), "{finding:?}");
        assert!(refused(NFT, &NftError::Missing).cure.contains("apt install nftables"));
    }
}
