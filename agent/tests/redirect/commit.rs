//! A commit that nobody confirms is undone: by its caller, by the guard if the caller is dead, by the next agent.

use std::time::Duration;

use hawser_agent::redirect::{Intent, Recovered, RedirectError, guard};

use crate::net::eventually;
use crate::{Host, intent};

fn wider() -> Intent {
    let mut wider = intent();
    wider.exempt.uids.insert(77);
    wider
}

#[test]
fn a_confirmed_commit_stays() {
    let host = Host::new();
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let pending = redirection.apply_with_rollback(&intent(), Duration::from_secs(60)).await.unwrap();
        pending.confirm().await.unwrap();
        guard(host.state.path(), Duration::ZERO).await.unwrap();
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
        assert!(redirection.status().await.unwrap().installed);
    });
}

#[test]
fn a_commit_is_undone_on_request_and_goes_back_to_what_was_before() {
    let host = Host::new();
    host.apply(&intent());
    let before = host.net.sh("nft -s list table inet hawser");
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let pending = redirection.apply_with_rollback(&wider(), Duration::from_secs(60)).await.unwrap();
        pending.rollback().await.unwrap();
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
    });
    assert_eq!(before, host.net.sh("nft -s list table inet hawser"));
}

#[test]
fn the_guard_undoes_what_its_dead_caller_did_not_confirm() {
    let host = Host::new();
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let pending = redirection.apply_with_rollback(&intent(), Duration::from_millis(500)).await.unwrap();
        // As good as a dead process: nothing of ours runs any more.
        std::mem::forget(pending);
    });
    assert!(host.net.sh("nft list tables").contains("hawser"));
    eventually("the guard rolls back", Duration::from_secs(5), || host.net.sh("nft list tables").is_empty());
    eventually("routes too", Duration::from_secs(2), || host.net.sh("ip route show proto 157").is_empty());
    host.net.block_on(async {
        assert_eq!(host.redirection().recover().await.unwrap(), Recovered::Nothing);
    });
}

#[test]
fn confirming_too_late_says_so() {
    let host = Host::new();
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let pending = redirection.apply_with_rollback(&intent(), Duration::from_millis(200)).await.unwrap();
        let waiting = host.state.path().join("redirect-pending.json");
        while waiting.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(matches!(pending.confirm().await, Err(RedirectError::RolledBack)));
    });
    assert_eq!(host.net.sh("nft list tables"), "", "and it is true");
}

#[test]
fn a_restarted_agent_undoes_what_was_not_confirmed_and_repeats_what_was() {
    let host = Host::new();
    host.apply(&intent());
    host.net.block_on(async {
        let mut redirection = host.redirection();
        std::mem::forget(redirection.apply_with_rollback(&wider(), Duration::from_secs(60)).await.unwrap());
        let mut restarted = host.redirection();
        assert_eq!(restarted.recover().await.unwrap(), Recovered::RolledBack(Some(Box::new(intent()))));
        assert_eq!(restarted.check().await.unwrap(), Vec::<String>::new());
    });
    // A reboot: the kernel has forgotten.
    host.net.sh("nft delete table inet hawser; ip route flush proto 157; ip -6 route flush proto 157");
    let state = host.state.path().display().to_string();
    host.net.sh(&format!("{} redirect-restore {state}", env!("CARGO_BIN_EXE_hawser-agent")));
    assert_eq!(host.check(), Vec::<String>::new());
}

#[test]
fn who_may_not_is_told_who_may() {
    let host = Host::new();
    let state = host.state.path().display().to_string();
    host.apply(&intent());
    let agent = env!("CARGO_BIN_EXE_hawser-agent");
    let refused = host.net.try_sh(&format!(
        "chmod -R a+rwX {state}; setpriv --reuid=64002 --clear-groups {agent} redirect-restore {state}"
    ));
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}
