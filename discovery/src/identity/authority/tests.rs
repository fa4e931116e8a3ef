use std::path::Path as FilePath;
use std::process::Command;

use rcgen::CertificateParams;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;

use super::*;
use crate::identity::serial;

fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn own(dir: &FilePath) -> Authority {
    Authority::new(domain(), Signer::own(dir, &domain(), SystemTime::now()).unwrap())
}

fn request() -> CheckedRequest {
    let params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    CheckedRequest::from_der(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
}

fn subject(id: SpiffeId, holder: Holder) -> Subject {
    Subject { id, holder }
}

fn openssl(args: &[&str]) -> (bool, String) {
    let out = Command::new("openssl").args(args).output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn a_workload_certificate_field_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let authority = own(dir.path());
    let id = domain().workload("default", "reviews").unwrap();
    let now = SystemTime::now();
    let issued = authority.issue(&request(), &subject(id.clone(), Holder::JoinedWorkload), None, now).unwrap();
    assert_eq!(issued.chain.len(), 1);
    let der = CertificateDer::from_pem_slice(issued.chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();

    assert_eq!(leaf.subject().iter().count(), 0);
    let san = leaf.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME).unwrap().unwrap();
    assert!(san.critical);
    let ParsedExtension::SubjectAlternativeName(names) = san.parsed_extension() else { panic!() };
    assert_eq!(names.general_names, [GeneralName::URI(id.as_str())]);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature only");
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    assert!(!leaf.is_ca());
    let unix = i64::try_from(crate::words::unix(now)).unwrap();
    let (before, after) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    assert!((unix - before - 120).abs() <= 1 && (after - unix - 86400).abs() <= 1);
    assert_eq!(serial::holder(leaf.raw_serial()), Some(Holder::JoinedWorkload));

    let pem = dir.path().join("leaf.pem");
    std::fs::write(&pem, &issued.chain[0]).unwrap();
    let root = dir.path().join("ca.pem");
    let (ok, text) = openssl(&["verify", "-x509_strict", "-CAfile", root.to_str().unwrap(), pem.to_str().unwrap()]);
    assert!(ok, "{text}");
    let (_, text) = openssl(&["x509", "-noout", "-text", "-in", pem.to_str().unwrap()]);
    assert!(text.contains("X509v3 Subject Alternative Name: critical"), "{text}");
    assert!(text.contains("URI:spiffe://cluster.local/ns/default/sa/reviews"), "{text}");
    assert!(!text.contains("evil.example"));
}

#[test]
fn a_host_certificate_is_for_clients_only() {
    let dir = tempfile::tempdir().unwrap();
    let authority = own(dir.path());
    let id = domain().host("0b0f3c9e").unwrap();
    let issued = authority.issue(&request(), &subject(id, Holder::Host), None, SystemTime::now()).unwrap();
    let der = CertificateDer::from_pem_slice(issued.chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
}

#[test]
fn discovery_s_identity_is_never_signed_for_a_caller() {
    let dir = tempfile::tempdir().unwrap();
    let authority = own(dir.path());
    let workload = domain().workload("default", "a").unwrap();
    let other: TrustDomain = "other.example".parse().unwrap();
    for (id, holder) in [
        (domain().discovery(), Holder::Discovery),
        (domain().discovery(), Holder::Host),
        (domain().discovery(), Holder::Caller),
        (workload.clone(), Holder::Host),
        (workload, Holder::Discovery),
        (domain().host("x").unwrap(), Holder::Caller),
        (other.workload("default", "a").unwrap(), Holder::Caller),
    ] {
        let refused = authority.issue(&request(), &subject(id, holder), None, SystemTime::now());
        assert!(matches!(refused, Err(SignError::Identity(_))), "{holder:?}");
    }
}

#[test]
fn the_root_is_made_once_and_a_start_that_was_killed_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = own(dir.path()).pins();
    assert_eq!(own(dir.path()).pins(), first);
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert_eq!(own(dir.path()).pins(), first, "the key stays, and with it the pin");
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = Signer::own(dir.path(), &domain(), SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("is not: restore it"), "{error}");
}

#[test]
fn a_plugged_in_intermediate_signs_and_is_sent_with_its_chain() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        cd "$0"
        openssl ecparam -name prime256v1 -genkey -noout -out root.key
        openssl req -x509 -new -key root.key -subj /O=Example/CN=Root -days 30 -out root-cert.pem
        openssl genrsa -out ca-key.pem 2048
        openssl req -new -key ca-key.pem -subj /O=Example/CN=Mesh -out ca.csr
        printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n' > ext
        openssl x509 -req -in ca.csr -CA root-cert.pem -CAkey root.key -CAcreateserial -days 3 -extfile ext -out ca-cert.pem
        cat ca-cert.pem root-cert.pem > cert-chain.pem
        chmod 600 ca-key.pem
    "#;
    let out = Command::new("sh").args(["-ec", script]).arg(dir.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let authority = Authority::new(domain(), Signer::plugged(dir.path(), SystemTime::now()).unwrap());
    let id = domain().workload("default", "reviews").unwrap();
    let life = Some(Duration::from_secs(90 * 86400));
    let now = SystemTime::now();
    let issued = authority.issue(&request(), &subject(id, Holder::Caller), life, now).unwrap();
    assert_eq!(issued.chain.len(), 2);
    assert!(issued.not_after <= now + Duration::from_secs(3 * 86400), "clamped to the signer");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("leaf.pem"), &issued.chain[0]).unwrap();
    std::fs::write(path("mid.pem"), &issued.chain[1]).unwrap();
    let (ok, text) =
        openssl(&["verify", "-CAfile", &path("root-cert.pem"), "-untrusted", &path("mid.pem"), &path("leaf.pem")]);
    assert!(ok, "{text}");
    let (chain, _, _) = authority.issue_own(SystemTime::now()).unwrap();
    assert_eq!(chain.len(), 3, "leaf, intermediate, root");

    std::fs::copy(path("root.key"), path("ca-key.pem")).unwrap();
    let error = Signer::plugged(dir.path(), SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("do not belong together"), "{error}");
}

/// Whether openssl takes a chain by these roots alone.
fn holds(dir: &FilePath, issued: &Issued, roots: &[String]) -> bool {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    std::fs::write(path("leaf.pem"), &issued.chain[0]).unwrap();
    std::fs::write(path("mid.pem"), issued.chain[1..].concat()).unwrap();
    std::fs::write(path("roots.pem"), roots.concat()).unwrap();
    let untrusted = path("mid.pem");
    let mid: &[&str] = if issued.chain.len() > 1 { &["-untrusted", &untrusted] } else { &[] };
    let roots = path("roots.pem");
    openssl(&[&["verify", "-x509_strict", "-CAfile", &roots], mid, &[&path("leaf.pem")]].concat()).0
}

#[test]
fn a_new_root_is_taken_by_whoever_knows_a_former_one_and_the_other_way_round() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = own(dir.path());
    let now = SystemTime::now();
    let id = domain().workload("default", "reviews").unwrap();
    let issue = |authority: &Authority| {
        authority.issue(&request(), &subject(id.clone(), Holder::JoinedWorkload), None, now).unwrap()
    };
    let (old, old_roots, old_pins) = (issue(&authority), authority.roots_pem(), authority.pins());
    let mut told = authority.rotations();
    authority.rotate(Duration::from_secs(1), now).unwrap();
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();
    let (middle, middle_roots) = (issue(&authority), authority.roots_pem());
    authority.rotate(Duration::from_secs(1), now).unwrap();
    let (new, new_roots) = (issue(&authority), authority.roots_pem());
    assert_eq!((old_roots.len(), middle_roots.len(), new_roots.len(), new.chain.len()), (1, 2, 3, 3));
    for (issued, roots) in [
        (&old, &old_roots),
        (&old, &new_roots),
        (&middle, &old_roots),
        (&middle, &new_roots),
        (&new, &old_roots),
        (&new, &middle_roots),
        (&new, &new_roots),
    ] {
        assert!(holds(work.path(), issued, roots));
    }
    assert!(holds(work.path(), &new, &new_roots[..1]), "the new root alone is enough");
    assert!(!holds(work.path(), &old, &new_roots[..1]), "and says nothing of former ones");

    // Who has only an old token finds its root in discovery's chain.
    let (chain, _, _) = authority.issue_own(now).unwrap();
    let pins: Vec<Pin> = chain
        .iter()
        .map(|der| {
            let (_, parsed) = X509Certificate::from_der(der).unwrap();
            Pin(digest(&SHA256, parsed.public_key().raw).as_ref().try_into().unwrap())
        })
        .collect();
    assert!(pins.contains(&old_pins[0]));
    let signing = |authority: &Authority| authority.roots().into_iter().find(|root| root.signing).unwrap();
    assert_eq!(authority.pins()[0], signing(&authority).pin);

    // A restart knows all of it; what has ended is left out.
    let again = own(dir.path());
    assert_eq!((again.roots_pem(), again.roots(), again.pins()), (new_roots, authority.roots(), authority.pins()));
    let until = again.roots().iter().filter_map(|root| root.trusted_until).max().unwrap();
    assert!(until > now + profile::LONGEST_LIFE - Duration::from_secs(2), "as long as any certificate may live");
    again.forget_former(until - Duration::from_secs(1)).unwrap();
    assert_eq!(again.roots().len(), 3);
    again.forget_former(until + Duration::from_secs(1)).unwrap();
    assert_eq!((again.roots(), issue(&again).chain.len()), (vec![signing(&authority)], 1));
}

#[test]
fn a_rotation_that_was_killed_is_whole_at_the_next_start() {
    let (dir, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = own(dir.path());
    let copy = |from: &FilePath, to: &FilePath| {
        for file in ["ca.key", "ca.pem", "ca-cross.pem"] {
            let _ = std::fs::copy(from.join(file), to.join(file));
        }
    };
    copy(dir.path(), aside.path());
    authority.rotate(Duration::from_secs(1), SystemTime::now()).unwrap();
    let after = authority.roots();
    // As it was between the first file and the others: all of them old, then the key new already.
    let text: String = ["ca.key", "ca.pem", "ca-cross.pem"]
        .iter()
        .map(|file| std::fs::read_to_string(dir.path().join(file)).unwrap())
        .collect();
    crate::store::write_file(&aside.path().join("ca-next.pem"), text.as_bytes(), 0o600).unwrap();
    assert_eq!(own(aside.path()).roots(), after);
    assert!(!aside.path().join("ca-next.pem").exists());
    crate::store::write_file(&aside.path().join("ca-next.pem"), text.as_bytes(), 0o600).unwrap();
    std::fs::remove_file(aside.path().join("ca-cross.pem")).unwrap();
    assert_eq!(own(aside.path()).roots(), after);
}

#[test]
fn a_root_is_not_replaced_too_often_and_only_if_it_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let authority = own(dir.path());
    for _ in 0..3 {
        authority.rotate(Duration::ZERO, SystemTime::now()).unwrap();
    }
    let before = authority.roots();
    assert!(matches!(authority.rotate(Duration::ZERO, SystemTime::now()), Err(SourceError::TooMany)));
    assert_eq!((authority.roots(), own(dir.path()).roots()), (before.clone(), before));
}
