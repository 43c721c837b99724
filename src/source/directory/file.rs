//! One file as it was last told: a version is taken over as a whole, or without its removals.
//!
//! `content ──parse──▶ objects + what is broken ──union with what the file held──▶ Change::Replace, Change::Rejected`
//!
//! A cut file hides documents, and a cut is seen only where it makes a document invalid. So what is missing counts as
//! deleted only in a version in which every document is fine. An empty file is a broken one: `command > file` and a
//! full disk leave nothing behind.

use std::collections::{BTreeSet, HashSet};

use aws_lc_rs::digest::{SHA256, digest};

use crate::compile::{Change, Diagnostic, Effect, Kind, Object, ObjectKey, Problem, Scope};
use crate::source::manifest::{self, Manifest};

#[derive(Default)]
pub(super) struct FileState {
    /// Hash of the content; `None` if it could not be read.
    hash: Option<[u8; 32]>,
    objects: Vec<Object>,
    diagnostics: Vec<Diagnostic>,
    /// Objects of the last version that lacked a part already.
    incomplete: BTreeSet<ObjectKey>,
    /// Kinds that are not used, in the last version without broken documents.
    unknown: BTreeSet<String>,
}

impl FileState {
    pub(super) fn holds_objects(&self) -> bool {
        !self.objects.is_empty()
    }

    pub(super) fn update(&mut self, scope: &Scope, content: Result<Vec<u8>, String>, out: &mut Vec<Change>) {
        let parsed = match content {
            Err(error) => {
                self.hash = None;
                Err(manifest::unreadable(scope, &manifest::brief(&error)))
            }
            Ok(content) => {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, &content).as_ref());
                if self.hash.replace(hash) == Some(hash) {
                    return;
                }
                match manifest::parse(scope, &content) {
                    Ok(manifest) if manifest.documents == 0 && self.holds_objects() => {
                        Err(manifest::unreadable(scope, "it is empty. Delete it to remove its objects"))
                    }
                    parsed => parsed,
                }
            }
        };
        let diagnostics = match parsed {
            Ok(manifest) => {
                let Manifest { objects, diagnostics, .. } = self.take_over(scope, manifest);
                if objects != self.objects {
                    self.objects.clone_from(&objects);
                    out.push(Change::Replace(scope.clone(), objects));
                }
                diagnostics
            }
            Err(mut diagnostic) => {
                if self.holds_objects() {
                    diagnostic.effect = Effect::LastGood;
                }
                vec![*diagnostic]
            }
        };
        if diagnostics != self.diagnostics {
            self.diagnostics.clone_from(&diagnostics);
            out.push(Change::Rejected(scope.clone(), diagnostics));
        }
    }

    /// Adds what the file held before, as far as its absence cannot be trusted.
    fn take_over(&mut self, scope: &Scope, mut manifest: Manifest) -> Manifest {
        let cut = manifest.cut.take().is_some_and(|kind| !self.unknown.contains(&kind));
        let before = std::mem::take(&mut self.incomplete);
        let mut damaged = manifest.damaged || cut;
        // An object that lost a part keeps its last complete version.
        let held: HashSet<ObjectKey> = self.objects.iter().map(Object::key).collect();
        let mut lost = HashSet::new();
        for (key, incomplete) in std::mem::take(&mut manifest.incomplete) {
            if before.contains(&key) {
                self.incomplete.insert(key);
                continue;
            }
            damaged = true;
            if held.contains(&key) {
                manifest.broken.push((manifest.diagnostics.len(), key.clone()));
                manifest.diagnostics.push(Diagnostic {
                    subject: ObjectKey::new(Kind::File, "", &scope.0),
                    field: incomplete.place.into(),
                    problem: Problem::InvalidDocument { object: Some(key.clone()), error: incomplete.error },
                    effect: Effect::LastGood,
                    hosts: Vec::new(),
                });
                lost.insert(key);
            } else {
                self.incomplete.insert(key);
            }
        }
        if !lost.is_empty() {
            manifest.objects.retain(|object| !lost.contains(&object.key()));
        }
        if !damaged || held.is_empty() {
            self.unknown = std::mem::take(&mut manifest.unknown);
            return manifest;
        }
        let present: HashSet<ObjectKey> = manifest.objects.iter().map(Object::key).collect();
        let kept: Vec<Object> =
            self.objects.iter().filter(|object| !present.contains(&object.key())).cloned().collect();
        let mut unexplained: BTreeSet<ObjectKey> = kept.iter().map(Object::key).collect();
        // What is still kept is as incomplete as it was.
        self.incomplete.extend(before.into_iter().filter(|key| unexplained.contains(key)));
        for (index, key) in &manifest.broken {
            if held.contains(key) && !present.contains(key) {
                manifest.diagnostics[*index].effect = Effect::LastGood;
                unexplained.remove(key);
            }
        }
        manifest.objects.extend(kept);
        if !unexplained.is_empty() {
            manifest.diagnostics.push(Diagnostic {
                subject: ObjectKey::new(Kind::File, "", &scope.0),
                field: Box::default(),
                problem: Problem::ObjectsKept { objects: unexplained.iter().map(ToString::to_string).collect() },
                effect: Effect::LastGood,
                hosts: Vec::new(),
            });
        }
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
";
    const SECRET: &str = "\
---
apiVersion: v1
kind: Secret
metadata: {name: shop}
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
  tls.key: |
    -----BEGIN PRIVATE KEY-----
    AAAA
    -----END PRIVATE KEY-----
";

    fn ingress(name: &str) -> String {
        format!(
            "\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
spec:
  rules:
  - host: {name}.test
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {{service: {{name: shop, port: {{number: 80}}}}}}
"
        )
    }

    fn whole() -> String {
        format!("{SERVICE}{SECRET}{}{}", ingress("one"), ingress("two"))
    }

    const ALL: &str = "Ingress default/one, Ingress default/two, Secret default/shop, Service default/shop";

    fn update(file: &mut FileState, content: &str) -> usize {
        let mut changes = Vec::new();
        file.update(&Scope("all.yaml".into()), Ok(content.as_bytes().to_vec()), &mut changes);
        changes.iter().filter(|change| matches!(change, Change::Replace(..))).count()
    }

    fn held(file: &FileState) -> String {
        let mut keys: Vec<String> = file.objects.iter().map(|object| object.key().to_string()).collect();
        keys.sort();
        keys.join(", ")
    }

    fn said(file: &FileState) -> String {
        file.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_cut_inside_a_document_removes_and_changes_nothing() {
        let whole = whole();
        for (end, expected) in [
            ("        pathType: ", "pathType is missing"),
            ("kind: Ing", "Kept: Ingress default/one, Ingress default/two"),
            ("    -----BEGIN CERTIFICATE-----\n    AAAA\n", "data[\"tls.key\"] is missing"),
            ("    -----BEGIN PRIVATE KEY-----\n    AA", "data[\"tls.key\"] is cut off"),
            ("kind: Ingress\nmetadata:\n  na", "Kept: Ingress default/one"),
            ("  - host: one", "http is missing"),
        ] {
            let mut file = FileState::default();
            update(&mut file, &whole);
            assert_eq!(held(&file), ALL);
            let objects = file.objects.clone();
            let at = whole.find(end).unwrap() + end.len();
            update(&mut file, &whole[..at]);
            assert_eq!(held(&file), ALL, "{end}");
            assert!(objects.iter().all(|object| file.objects.contains(object)), "{end}");
            let said = said(&file);
            assert!(said.contains(expected) && said.contains("Ingress default/two"), "{end}: {said}");
            assert!(said.contains("(last-good)"), "{end}: {said}");
            // What cannot be read at all keeps the same.
            update(&mut file, "a: [");
            assert_eq!(held(&file), ALL, "{end}");
            update(&mut file, &whole);
            assert_eq!((held(&file).as_str(), file.diagnostics.len()), (ALL, 0), "{end}");
            update(&mut file, SERVICE);
            assert_eq!(held(&file), "Service default/shop", "{end}");
        }
    }

    #[test]
    fn every_cut_inside_the_last_line_of_a_field_that_is_needed_is_noticed_or_harmless() {
        let whole = whole();
        let start = whole.find("---\napiVersion: networking").unwrap() + 4;
        let end = whole.find("backend: ").unwrap();
        for at in start + 1..end {
            let mut file = FileState::default();
            update(&mut file, &whole);
            update(&mut file, &whole[..at]);
            for key in ALL.split(", ") {
                assert!(held(&file).contains(key), "{key} is lost: {}", &whole[..at]);
            }
        }
    }

    #[test]
    fn good_documents_move_on_beside_a_broken_one_and_new_ones_come() {
        let mut file = FileState::default();
        update(&mut file, &whole());
        let changed = SERVICE.replace("port: 80", "port: 81");
        update(&mut file, &format!("{changed}---\njust text\n{}", ingress("new")));
        assert_eq!(
            held(&file),
            "Ingress default/new, Ingress default/one, Ingress default/two, Secret default/shop, Service default/shop"
        );
        let Some(Object::Service(service)) = file.objects.first() else { panic!("{:?}", file.objects) };
        assert_eq!(service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port, 81);
        assert!(
            said(&file).ends_with("Kept: Ingress default/one, Ingress default/two, Secret default/shop. (last-good)")
        );
    }

    #[test]
    fn kinds_of_other_programs_do_not_stand_in_the_way_of_removals() {
        let other = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}\n";
        let bare = "---\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        let mut file = FileState::default();
        update(&mut file, &format!("{SERVICE}{}{bare}", ingress("one")));
        update(&mut file, &format!("{SERVICE}{bare}"));
        assert_eq!(held(&file), "Service default/shop", "it was there before");
        update(&mut file, &format!("{SERVICE}{}", ingress("one")));
        update(&mut file, &format!("{SERVICE}{other}"));
        assert_eq!(held(&file), "Service default/shop", "it is whole");
        update(&mut file, &format!("{SERVICE}{}", ingress("one")));
        update(&mut file, &format!("{SERVICE}{bare}"));
        assert_eq!(held(&file), "Ingress default/one, Service default/shop", "it may be cut off");
        update(&mut file, &format!("{SERVICE}{}", ingress("one").replace("kind: Ingress", "kind: Ingres")));
        assert_eq!(held(&file), "Ingress default/one, Service default/shop", "it is misspelt");
        assert!(said(&file).contains("Do you mean Ingress?"), "{}", said(&file));
    }

    #[test]
    fn a_policy_whose_setting_is_misspelt_by_an_edit_stays_as_it_was() {
        let policy = "apiVersion: handfast.dev/v1alpha1\nkind: TlsPolicy\nmetadata: {name: closed}\n\
                      spec:\n  clientAuth: {mode: required, caSecret: our-ca}\n";
        let mut file = FileState::default();
        update(&mut file, policy);
        update(&mut file, &policy.replace("clientAuth", "clientauth"));
        let [Object::TlsPolicy(held)] = file.objects.as_slice() else { panic!("{:?}", file.objects) };
        assert!(held.spec.client_auth.is_some());
        assert_eq!(
            said(&file),
            "error: File all.yaml document 1 (line 1): The document is not valid: TlsPolicy default/closed: \
             spec.clientauth does not exist (do you mean clientAuth?). (last-good)"
        );
    }

    #[test]
    fn an_emptied_file_is_broken_and_keeps_its_objects() {
        for empty in ["", " \n\n", "# only\n# comments\n", "---\n---\n"] {
            let mut file = FileState::default();
            assert_eq!(update(&mut file, SERVICE), 1);
            assert_eq!(update(&mut file, empty), 0);
            assert_eq!(held(&file), "Service default/shop");
            assert_eq!(
                said(&file),
                "error: File all.yaml: The file is not used: it is empty. Delete it to remove its objects. (last-good)"
            );
            assert_eq!((update(&mut file, SERVICE), said(&file)), (0, String::new()));
        }
        let mut file = FileState::default();
        assert_eq!((update(&mut file, ""), said(&file)), (0, String::new()), "there is nothing to lose");
    }
}
