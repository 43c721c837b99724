//! Where the webhook's certificate comes from, for as long as it serves.
//!
//! ```text
//! --webhook-cert, --webhook-key ──every 10 s──▶ changed? ──▶ ServerConfig
//! --webhook-client-ca ──every minute──▶ changed? ──▶ ServerConfig
//! Secret ──every minute──▶ due? ──make, first writer wins──▶ Secret
//!    └──▶ CA into the ValidatingWebhookConfiguration ──▶ ServerConfig
//! ```
//!
//! All replicas keep one certificate in one Secret. Whoever finds that something is due writes it; a write is refused if
//! another came first, whose certificate is then taken over. The API server learns of a CA before a certificate of it is
//! shown, so a change costs no review. Without the permission to do this the webhook serves all the same, with a
//! certificate that lives as long as the process, and the log says what is missing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::certificate::{self, Kept, Need};
use crate::clock::Clock;
use crate::config::WebhookArgs;

/// Why files cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum FileError {
    /// It is not there, or may not be read.
    #[error("{flag} {file}: cannot read it")]
    Read {
        /// What names it.
        flag: &'static str,
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else. Nothing of its content is shown.
    #[error("{flag} {file}: it does not contain {what}")]
    Content {
        /// What names it.
        flag: &'static str,
        /// Its path.
        file: String,
        /// What is expected.
        what: &'static str,
    },
    /// The key is not the certificate's, say.
    #[error("--webhook-cert and --webhook-key do not belong together, or cannot be used")]
    Pair(#[source] rustls::Error),
}

/// What the certificates of connections are made of, PEM. No `Debug`: it has a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// How connections are secured; `None` until that is known.
pub(super) type Offered = watch::Sender<Option<Arc<ServerConfig>>>;

impl Files {
    /// Reads what the flags name.
    pub(super) fn read(args: &WebhookArgs) -> Result<Self, FileError> {
        let read = |flag, path: &Option<std::path::PathBuf>| path.as_ref().map(|path| read(flag, path)).transpose();
        Ok(Self {
            certificate: read(CERT, &args.webhook_cert)?.unwrap_or_default(),
            key: read(KEY, &args.webhook_key)?.unwrap_or_default(),
            client_ca: read(CLIENT_CA, &args.webhook_client_ca)?,
        })
    }

    /// The same, off the current thread: a disk can hang, and others live on it. `None` if that comes to nothing.
    async fn read_again(args: &WebhookArgs) -> Option<Result<Self, FileError>> {
        let args = args.clone();
        tokio::task::spawn_blocking(move || Self::read(&args)).await.ok()
    }

    /// Puts them into force.
    pub(super) fn config(&self, args: &WebhookArgs) -> Result<Arc<ServerConfig>, FileError> {
        let content = |flag, path: &Option<std::path::PathBuf>, what| {
            let file = path.as_ref().map_or_else(String::new, |path| path.display().to_string());
            FileError::Content { flag, file, what }
        };
        let no_certificate = || content(CERT, &args.webhook_cert, "certificates in PEM form");
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(no_certificate)?;
        let no_key = |_| content(KEY, &args.webhook_key, "a private key in PEM form");
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(no_key)?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(FileError::Pair)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let no_ca = || content(CLIENT_CA, &args.webhook_client_ca, "certificates of authorities in PEM form");
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    roots.add(certificate.map_err(|_| no_ca())?).map_err(|_| no_ca())?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|_| no_ca())?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(FileError::Pair)?;
        // Each request is short, so nothing is gained by more than one on a connection at a time.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

const CERT: &str = "--webhook-cert";
const KEY: &str = "--webhook-key";
const CLIENT_CA: &str = "--webhook-client-ca";

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Read { flag, file: path.display().to_string(), source })
}

/// How often files are looked at.
const FILES_EVERY: Duration = Duration::from_secs(10);

/// Follows the files that the flags name, until `end`.
pub(super) async fn follow_files(args: WebhookArgs, mut files: Files, offered: Arc<Offered>, end: CancellationToken) {
    let mut complained = String::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(FILES_EVERY) => {}
        }
        let Some(found) = Files::read_again(&args).await else { continue };
        let config = found.and_then(|found| {
            let config = if found == files { None } else { Some(found.config(&args)?) };
            Ok((found, config))
        });
        match config {
            Ok((_, None)) => complained.clear(),
            Ok((found, Some(config))) => {
                files = found;
                offered.send_replace(Some(config));
                info!("The webhook uses the new content of its files.");
            }
            Err(error) => complain(&mut complained, &format!("{error}; the webhook keeps its previous certificate")),
        }
    }
}

/// Says something once, until something else is to be said.
fn complain(complained: &mut String, text: &str) {
    if complained != text {
        warn!("{text}.");
        text.clone_into(complained);
    }
}

/// What the cluster knows about the webhook.
pub(super) struct Keeper {
    /// For single requests.
    pub(super) client: Client,
    /// Our own namespace.
    pub(super) namespace: Arc<str>,
    pub(super) args: WebhookArgs,
    /// The CA of clients, if they are asked for certificates.
    pub(super) files: Files,
    pub(super) clock: Clock,
    pub(super) offered: Arc<Offered>,
}

/// Why the certificate cannot be kept as it should be.
#[derive(thiserror::Error, Debug)]
enum Trouble {
    #[error(
        "cannot read the Secret {0} for the webhook's certificate: it must exist, and Handfast needs the right to get it"
    )]
    Read(String, #[source] kube::Error),
    #[error("cannot write the webhook's certificate to the Secret {0}: Handfast needs the right to update it")]
    Write(String, #[source] kube::Error),
    #[error("cannot create the webhook's certificate")]
    Make(#[from] rcgen::Error),
    #[error("cannot use the webhook's certificate")]
    Use(#[from] FileError),
    #[error(
        "cannot write the CA of the webhook's certificate to the ValidatingWebhookConfiguration {0}: it must exist, and \
         Handfast needs the rights to get and patch it"
    )]
    Configuration(String, #[source] kube::Error),
    #[error(
        "no webhook of the ValidatingWebhookConfiguration {0} names the Service {1}, so the API server never asks this webhook"
    )]
    NotNamed(String, String),
}

/// How often the Secret and the configuration are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// The same after trouble.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the API server has to learn of a new CA before a certificate of it is shown.
const SETTLE: Duration = Duration::from_secs(5);

impl Keeper {
    /// Keeps the certificate until `end`.
    pub(super) async fn run(mut self, end: CancellationToken) {
        tokio::select! {
            () = end.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut complained = String::new();
        let mut shown: Option<Kept> = None;
        loop {
            let mut wait = EVERY;
            let followed = self.follow_client_ca(shown.as_ref()).await.map_err(Trouble::from);
            if let Err(trouble) = self.turn(&mut shown).await.and(followed) {
                wait = AGAIN;
                let cause = std::error::Error::source(&trouble).map(|cause| format!(": {cause}")).unwrap_or_default();
                complain(&mut complained, &format!("{trouble}{cause}"));
                if !shown.as_ref().is_some_and(|shown| self.is_usable(shown)) {
                    self.show_own(&mut shown);
                }
            } else {
                complained.clear();
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Puts the CA of clients into force that its file holds now. One that cannot be used changes nothing.
    async fn follow_client_ca(&mut self, shown: Option<&Kept>) -> Result<(), FileError> {
        let Some(found) = Files::read_again(&self.args).await else { return Ok(()) };
        let found = found?;
        let (Some(shown), true) = (shown, found != self.files) else { return Ok(()) };
        let before = std::mem::replace(&mut self.files, found);
        match self.show(shown) {
            Ok(()) => info!("The webhook uses the new content of --webhook-client-ca."),
            Err(error) => {
                self.files = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// One look at everything.
    async fn turn(&self, shown: &mut Option<Kept>) -> Result<(), Trouble> {
        let kept = self.kept(shown.as_ref()).await?;
        let announced = self.announce(&kept.ca).await;
        match &*shown {
            Some(shown) if *shown == kept => return announced.map(drop),
            Some(shown) if self.is_usable(shown) => match announced {
                Ok(true) => tokio::time::sleep(SETTLE).await,
                Ok(false) => {}
                // The API server knows the CA of what is shown, and may not know the one that comes after it.
                Err(trouble) if shown.ca != kept.ca && names(&kept.ca, &shown.ca) => return Err(trouble),
                Err(_) => {}
            },
            // Without the right to say who has issued it somebody else may do so.
            Some(_) | None => {}
        }
        self.show(&kept)?;
        *shown = Some(kept);
        announced.map(drop)
    }

    fn is_usable(&self, kept: &Kept) -> bool {
        kept.is_usable(&self.names(), (self.clock)())
    }

    /// What is in the Secret, made if it is due. An empty one gets what is shown.
    async fn kept(&self, shown: Option<&Kept>) -> Result<Kept, Trouble> {
        const ATTEMPTS: usize = 4;
        let name = &self.args.webhook_secret;
        let path = || format!("{}/{name}", self.namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let names = self.names();
        for attempt in 1.. {
            let mut secret = secrets.get(name).await.map_err(|error| Trouble::Read(path(), error))?;
            let now = (self.clock)();
            let data = secret.data.get_or_insert_default();
            let kept = Kept::read(data);
            let before = kept.as_ref().or(shown);
            let need = before.map_or(Need::Everything, |before| before.need(&names, now));
            let made = match (before, need) {
                (Some(before), Need::Nothing) => before.clone(),
                (before, need) => certificate::make(before, need, &names, now)?,
            };
            if kept.as_ref() == Some(&made) {
                return Ok(made);
            }
            made.write(data);
            // With the version that was read: whoever comes second is refused, and looks again.
            match secrets.replace(name, &PostParams::default(), &secret).await {
                Ok(_) => {
                    info!(secret = %path(), "The webhook has written its certificate.");
                    return Ok(made);
                }
                Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {}
                Err(error) => {
                    let usable = kept.filter(|kept| kept.is_usable(&names, now));
                    return usable.ok_or_else(|| Trouble::Write(path(), error));
                }
            }
        }
        unreachable!("invariant: the last attempt returns")
    }

    /// Names the CA to the API server, where it names another. True if something was written.
    async fn announce(&self, ca: &str) -> Result<bool, Trouble> {
        let name = &self.args.webhook_configuration;
        let failed = |error| Trouble::Configuration(name.clone(), error);
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = configurations.get(name).await.map_err(failed)?;
        let webhooks = configuration.webhooks.unwrap_or_default();
        let ours: Vec<_> = webhooks
            .iter()
            .filter(|webhook| {
                let service = webhook.client_config.service.as_ref();
                service.is_some_and(|service| {
                    (&*service.namespace, &*service.name) == (&*self.namespace, self.args.webhook_service.as_str())
                })
            })
            .collect();
        if ours.is_empty() {
            let service = format!("{}/{}", self.namespace, self.args.webhook_service);
            return Err(Trouble::NotNamed(name.clone(), service));
        }
        // A replica that has yet to see a new CA leaves it there: the one before stands behind it.
        let names_it = |bundle: &ByteString| std::str::from_utf8(&bundle.0).is_ok_and(|bundle| names(bundle, ca));
        let changed = ours.iter().filter(|webhook| !webhook.client_config.ca_bundle.as_ref().is_some_and(names_it));
        let bundle = STANDARD.encode(ca);
        let entries: Vec<_> =
            changed.map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}})).collect();
        if entries.is_empty() {
            return Ok(false);
        }
        // By the names of its entries: others in the list stay as they are, also those that come meanwhile.
        let patch = Patch::Strategic(json!({"webhooks": entries}));
        let params = PatchParams { field_manager: Some("handfast".to_owned()), ..PatchParams::default() };
        configurations.patch(name, &params, &patch).await.map_err(failed)?;
        info!(configuration = %name, "The ValidatingWebhookConfiguration has the CA of the webhook's certificate.");
        Ok(true)
    }

    fn show(&self, kept: &Kept) -> Result<(), FileError> {
        let files = Files {
            certificate: kept.certificate.as_bytes().to_vec(),
            key: kept.key.as_bytes().to_vec(),
            client_ca: self.files.client_ca.clone(),
        };
        self.offered.send_replace(Some(files.config(&self.args)?));
        Ok(())
    }

    /// Nobody knows this certificate, but whoever turns verification off is served.
    fn show_own(&self, shown: &mut Option<Kept>) {
        let own = certificate::make(None, Need::Everything, &self.names(), (self.clock)());
        let result = own.map_err(Trouble::from).and_then(|own| {
            self.show(&own)?;
            Ok(own)
        });
        match result {
            Ok(own) => *shown = Some(own),
            Err(error) => warn!("{error}."),
        }
    }

    /// The names that the API server may look for.
    fn names(&self) -> Vec<String> {
        let (service, namespace) = (&self.args.webhook_service, &self.namespace);
        vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")]
    }
}

/// Whether a bundle has the authority that issues, which is the first one of `ca`.
fn names(bundle: &str, ca: &str) -> bool {
    bundle.contains(certificate::first_block(ca))
}

#[cfg(test)]
mod tests;
