//! Each way a handshake fails: label, who must act, the alert we send, and the remedy.
//!
//! `what the peer sent, or rustls::Error ──▶ Reason ──▶ counter, alert, log line`
//!
//! Closed, and without data: a label never carries bytes from the network. Facts behind the mapping: a client's
//! rejection of our certificate reaches us as an alert, as a silent close, or not at all.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// Who must act so that a failure does not happen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    /// The host's certificate, key or `tls` entry.
    Certificate,
    /// The client.
    Client,
    /// Something between the client and us.
    Network,
    /// What the operator's policy leaves out.
    Policy,
    /// Handfast itself, or its capacity.
    Server,
}

impl Blame {
    /// All of them.
    pub const ALL: [Blame; 5] = [Blame::Certificate, Blame::Client, Blame::Network, Blame::Policy, Blame::Server];

    /// The value of the `blame` label.
    pub fn label(self) -> &'static str {
        match self {
            Blame::Certificate => "certificate",
            Blame::Client => "client",
            Blame::Network => "network",
            Blame::Policy => "policy",
            Blame::Server => "server",
        }
    }
}

/// The outcome that is no failure and has no reason.
pub static PROBE: super::about::About = super::about::About {
    code: "probe",
    severity: super::Severity::Info,
    meaning: "A connection to the TLS port was closed or reset before its first byte (handfast_tls_probes_total). Health \
              checks of load balancers do this, and port scanners, and clients that connect in advance.",
    fault: "nobody",
    remedy: "nothing; if there are many, check which load balancer connects, and how often",
};

/// The text about a reason, the same for every connection.
struct About {
    label: &'static str,
    blame: Blame,
    alert: Option<AlertDescription>,
    meaning: &'static str,
    remedy: &'static str,
}

macro_rules! alert {
    (none) => {
        None
    };
    ($alert:ident) => {
        Some(AlertDescription::$alert)
    };
}

/// Makes the enum and everything that is said about its variants from one row each:
/// `Variant "label" Blame Alert "meaning" "remedy";`
macro_rules! reasons {
    ($($variant:ident $label:literal $blame:ident $alert:ident $meaning:literal $remedy:literal;)+) => {
        /// Why a connection to the TLS port, or with TLS to the port for HTTP, did not become a working TLS connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)+];

            fn about(self) -> About {
                match self {
                    $(Reason::$variant => About {
                        label: $label,
                        blame: Blame::$blame,
                        alert: alert!($alert),
                        meaning: $meaning,
                        remedy: $remedy,
                    },)+
                }
            }
        }
    };
}

reasons! {
    BadPskBinder "bad-psk-binder" Client DecryptError
        "The client resumed a session with the wrong key (RFC 8446 section 4.2.11.2). Its session does not match its ticket."
        "if it is one client only, clear its session cache; otherwise look for replicas that share ticket keys but not sessions";
    CbcOnly "cbc-only" Client HandshakeFailure
        "The client offers only cipher suites in CBC mode, or older ones. They are too weak, so Handfast does not serve them (RFC 7457 section 2)."
        "update the client: it needs a suite with AES-GCM or ChaCha20-Poly1305";
    ClientAlert "client-alert" Client none
        "The client ended the handshake with an alert that is not about our certificate."
        "look at the client's log: its settings (for example a minimum version) refuse what this host offers";
    ClientCancelled "client-cancelled" Client none
        "The client ended the handshake in the regular way (close_notify or user_canceled)."
        "nothing, unless it happens often: then the client gives up early, for example on a slow network";
    ClientCertificateBadSignature "client-certificate-bad-signature" Client DecryptError
        "A signature in the client's certificate chain is wrong, or of an unsupported kind. Often a CA of the same name now has another key."
        "compare it with the host's client CAs: `openssl verify -CAfile ca.crt -purpose sslclient -untrusted intermediates.pem client.pem`";
    ClientCertificateExpired "client-certificate-expired" Client CertificateExpired
        "The client's certificate, or one of its issuers, has expired (RFC 5280 section 6.1.3)."
        "renew the client's certificate; if it has not expired, correct this machine's clock";
    ClientCertificateInvalid "client-certificate-invalid" Client BadCertificate
        "The client's certificate is malformed, or it violates a constraint of its issuer."
        "compare it with the host's client CAs: `openssl verify -CAfile ca.crt -purpose sslclient -untrusted intermediates.pem client.pem`";
    ClientCertificateMissing "client-certificate-missing" Client CertificateRequired
        "The host asks for a certificate, and the client sent none (RFC 8446 section 4.4.2.4)."
        "give the client a certificate and its key; if it has one, check that one of the host's client CAs issued it, because clients send no other";
    ClientCertificateNotValidYet "client-certificate-not-valid-yet" Client CertificateExpired
        "The client's certificate, or one of its issuers, is not valid yet (RFC 5280 section 6.1.3)."
        "wait, or correct the clock of the CA or of this machine";
    ClientCertificateRevocationUnknown "client-certificate-revocation-unknown" Policy UnknownCA
        "The host's revocation lists (ca.crl) do not cover the client's certificate or one of its issuers. The list is missing, has expired, or is not signed with the issuer's key (RFC 5280 section 6.3)."
        "put the current list of each issuer, intermediates included, into ca.crl of the Secret with the host's client CAs";
    ClientCertificateRevoked "client-certificate-revoked" Client CertificateRevoked
        "The client's certificate, or one of its issuers, is revoked (RFC 5280 section 6.3)."
        "give the client a new certificate; if this one is not revoked, put the CA's current list into ca.crl of the Secret";
    ClientCertificateUnknownCa "client-certificate-unknown-ca" Client UnknownCA
        "No chain leads from the client's certificate to the host's client CAs. Another CA issued it, or the client does not send its intermediates."
        "let the client send its intermediates, or add its CA to the Secret with the host's client CAs";
    ClientCertificateWrongPurpose "client-certificate-wrong-purpose" Client UnsupportedCertificate
        "The client's certificate may not be used for clients (extended key usage without clientAuth, RFC 5280 section 4.2.1.12)."
        "have the client's certificate issued for client authentication (extended key usage clientAuth)";
    ClosedAfterCertificate "closed-after-certificate" Certificate none
        "The client closed the connection after it received our certificate, without an alert. Node, Java's HttpClient and some BoringSSL clients reject certificates in this way."
        "check chain, names and dates of the host's certificate";
    ClosedInHello "closed-in-hello" Network none
        "The client closed the connection in the middle of its first message (ClientHello)."
        "look for a middlebox that cuts large first messages (post-quantum ClientHellos are longer than one packet)";
    CryptoMismatch "crypto-mismatch" Network DecryptError
        "A message could not be decrypted or verified, here or at the client. Bytes changed on the way, or a middlebox intercepts TLS."
        "look for a device between client and host that intercepts TLS";
    EstablishedWithoutRequest "established-without-request" Certificate none
        "The handshake was completed, and the client left without sending a request. This is not a failure, but some clients reject certificates in this way (curl for a wrong name, BoringSSL clients for any reason). Health checks and browsers that connect in advance look the same."
        "if one host has more of these than others, check chain, names and dates of its certificate with `handfast check`";
    Evicted "evicted" Server InternalError
        "All places for connections or handshakes were taken, and this connection had waited longest for its client: it was ended so that a newcomer could be served. The detail says which places."
        "find out who opens connections and does not go on; if these are clients that mean it, add replicas or workers, or raise --max-connections or --max-handshakes";
    HostRefused "host-refused" Certificate UnrecognisedName
        "The host is configured, but its Secret has no usable certificate, and there is no default certificate."
        "run `handfast check`: it names the Secret and what is wrong with it";
    HostWithoutTls "host-without-tls" Certificate UnrecognisedName
        "The host is configured without TLS, and neither a wildcard host's certificate nor a default certificate covers it."
        "add a `tls` entry for the host to its Ingress, or set --default-tls-secret";
    Internal "internal" Server InternalError
        "A bug in Handfast."
        "report it with the log lines around it";
    MalformedHello "malformed-hello" Client DecodeError
        "The first message is TLS, but not a well-formed ClientHello (RFC 8446 section 4.1.2)."
        "capture the connection: this is a scanner or a broken client";
    MalformedRecord "malformed-record" Client RecordOverflow
        "A record is empty, longer than TLS allows, or has a version that is not TLS (RFC 8446 section 5.1)."
        "capture the connection: this is a scanner, a broken client, or a device that changes bytes";
    MalformedServerName "malformed-server-name" Client IllegalParameter
        "The client sent a server name that is not a host name (RFC 6066 section 3): it has a port, brackets, a path, a space, letters beyond ASCII, or an empty or too long label."
        "let the client send the host name alone, without scheme, port, path and brackets; an international name as its A-label (xn--…)";
    MissingExtension "missing-extension" Client MissingExtension
        "The client does not send an extension that its TLS version requires (RFC 8446 section 9.2)."
        "capture the connection: this is a broken client or a scanner";
    NoServerName "no-server-name" Client UnrecognisedName
        "The client sent no server name (SNI, RFC 6066 section 3), and there is no default certificate."
        "let the client send a server name, or set --default-tls-secret";
    NoSharedAlpn "no-shared-alpn" Client NoApplicationProtocol
        "The client offers only application protocols that this host does not support (RFC 7301 section 3.2)."
        "let the client offer h2 or http/1.1";
    NoSharedGroup "no-shared-group" Client HandshakeFailure
        "The client offers no key exchange group that this host supports."
        "update the client: it needs X25519, P-256 or P-384";
    NoSharedSignatureScheme "no-shared-signature-scheme" Certificate HandshakeFailure
        "The client cannot verify a signature by the key of this host's certificate. It supports this kind of key, but not this curve or hash."
        "use a certificate with a P-256 or RSA key";
    NoSharedSuite "no-shared-suite" Client HandshakeFailure
        "The client offers no cipher suite that this host supports (RFC 8446 section 4.1.1)."
        "compare the client's cipher suites with those of the host's policy";
    NoSharedVersion "no-shared-version" Client ProtocolVersion
        "The client offers only protocol versions that this host does not support, usually TLS 1.0 and 1.1."
        "update the client: TLS 1.2 is the oldest supported version (RFC 8996)";
    NotTls "not-tls" Client none
        "The first bytes are neither TLS nor another known protocol."
        "find out who connects: this is a scanner, or a client with the wrong port";
    Overloaded "overloaded" Server InternalError
        "All places for connections were taken by requests in progress, so none could be ended for a newcomer. The connection was closed immediately."
        "add replicas or workers, or raise --max-connections or --max-handshakes";
    PlainHttp "plain-http" Client none
        "The client sent plain HTTP to the TLS port. It gets a 400 that says so."
        "let the client use https:// for this port";
    ProtocolViolation "protocol-violation" Client IllegalParameter
        "The client broke the protocol: a value is not allowed, or contradicts an earlier one."
        "capture the connection: this is a broken client or a scanner";
    ProxyHeader "proxy-header" Network none
        "The connection begins with a PROXY protocol header, and this listener does not expect one."
        "switch --proxy-protocol on, or the load balancer's PROXY protocol off";
    ProxyHeaderMissing "proxy-header-missing" Network none
        "This listener expects a PROXY protocol header. It is missing or malformed."
        "switch the load balancer's PROXY protocol on, or --proxy-protocol off";
    RejectedExpired "rejected-expired" Certificate none
        "The client says that our certificate has expired (certificate_expired). If it has not, the client's clock is wrong."
        "renew the certificate; if `handfast check` says that it is valid, correct the client's clock";
    RejectedRevoked "rejected-revoked" Certificate none
        "The client says that our certificate is revoked (certificate_revoked)."
        "have the certificate issued again";
    RejectedStaple "rejected-staple" Certificate none
        "The client did not accept the OCSP response (bad_certificate_status_response)."
        "have the certificate issued again without must-staple";
    RejectedUnknownCa "rejected-unknown-ca" Certificate none
        "The client does not know the issuer of our certificate (unknown_ca). The chain is incomplete, or the CA is private."
        "add the intermediate certificates to tls.crt, or the private root to the client's trust store";
    RejectedUnspecified "rejected-unspecified" Certificate none
        "The client rejects our certificate without a reason (bad_certificate, certificate_unknown). Java, Go and GnuTLS do this for every cause."
        "check chain, names and dates of the host's certificate with `handfast check`";
    RejectedUnsupported "rejected-unsupported" Certificate none
        "The client cannot use our certificate (unsupported_certificate), for example because it may not be used for servers."
        "have the certificate issued for server authentication, with a common key type";
    ResetAfterCertificate "reset-after-certificate" Certificate none
        "The client, or a device in front of it, reset the connection after it received our certificate, without an alert."
        "check chain, names and dates of the host's certificate; if these are good, look for a middlebox";
    ResetInHello "reset-in-hello" Network none
        "The connection was reset in the middle of the client's first message (ClientHello)."
        "look for a middlebox that resets large or unknown first messages";
    Sha1Only "sha1-only" Client HandshakeFailure
        "The client supports only SHA-1 signatures, or lists no signature algorithms, which means the same (RFC 5246 section 7.4.1.4.1, RFC 9155)."
        "update the client: it needs SHA-256 signatures";
    ShutDown "shut-down" Server none
        "Handfast ended before the handshake was complete, because of a second signal or because --drain-timeout was over."
        "nothing; if it happens in each rollout, raise --drain-timeout and the grace period of the pod";
    Ssh "ssh" Client none
        "An SSH client connected to the TLS port."
        "correct the client's port";
    Sslv2 "sslv2" Client ProtocolVersion
        "The client sent an SSL 2.0 hello. Handfast does not support SSL 2.0 (RFC 6176)."
        "update the client";
    StaticRsaOnly "static-rsa-only" Client HandshakeFailure
        "The client offers only cipher suites without an ephemeral key exchange, such as static RSA. They have no forward secrecy, so Handfast does not serve them (RFC 9325 section 4.1)."
        "update the client: it needs an ECDHE suite with AES-GCM or ChaCha20-Poly1305";
    TimeoutAfterCertificate "timeout-after-certificate" Network none
        "The client was silent after our certificate was sent. Often our answer does not arrive, because it is larger than the path's MTU."
        "check the path MTU between client and host";
    TimeoutBeforeHello "timeout-before-hello" Network none
        "The client connected and sent nothing until the timeout."
        "find out who connects: usually a health check or a port scanner";
    TimeoutInHello "timeout-in-hello" Network none
        "The client's first message (ClientHello) was not complete at the timeout."
        "check the path MTU and middleboxes: post-quantum ClientHellos are longer than one packet";
    TlsOnHttpPort "tls-on-http-port" Client UnexpectedMessage
        "The client sent a TLS or SSL 2.0 hello to the port for plain HTTP. It gets an alert."
        "let the client use the HTTPS port; if it does, correct what forwards that port to the HTTP port of Handfast: the load balancer, the Service or the hostPort";
    TooMuchEarlyData "too-much-early-data" Client BadRecordMac
        "The client sent more than 16 KiB of early data (RFC 8446 section 4.2.10). Its session allows this, but is not a session of this server, or no longer."
        "let the client send less early data; check whether it uses sessions of another server here";
    UnexpectedMessage "unexpected-message" Client UnexpectedMessage
        "The client sent a message at the wrong time (RFC 8446 section 6.2, unexpected_message)."
        "capture the connection: this is a broken client or a scanner";
    UnknownHost "unknown-host" Client UnrecognisedName
        "No Ingress has this host name, and there is no default certificate (RFC 6066 section 3)."
        "add the host to an Ingress of this class, or correct the client's URL or DNS";
    WrongCertificateType "wrong-certificate-type" Certificate HandshakeFailure
        "The client cannot use a certificate with this kind of key. Its cipher suites or signature schemes are for the other kind only (ECDSA or RSA)."
        "add a certificate with the other kind of key to the host, so that it has ECDSA P-256 and RSA";
}

impl Reason {
    /// The value of the `reason` label; kebab-case and stable.
    pub fn label(self) -> &'static str {
        self.about().label
    }

    /// Who must act, if nothing more is known about the connection. The offer and the chain can tell otherwise
    /// ([`preflight`](crate::tls::preflight), [`rejection`](crate::tls::rejection)).
    pub fn blame(self) -> Blame {
        self.about().blame
    }

    /// The fatal alert that we send when we are the one who ends the handshake (RFC 8446 section 6.2). `None` where the
    /// client ended it, or where it does not speak TLS.
    pub fn alert(self) -> Option<AlertDescription> {
        self.about().alert
    }

    /// What happened, in whole sentences.
    pub fn meaning(self) -> &'static str {
        self.about().meaning
    }

    /// What the operator can do about it.
    pub fn remedy(self) -> &'static str {
        self.about().remedy
    }

    /// True if the client left because of our certificate, or may have: what is known about the chain then belongs to
    /// the statement.
    pub fn may_be_rejection(self) -> bool {
        const REJECTIONS: [Reason; 9] = [
            Reason::ClosedAfterCertificate,
            Reason::EstablishedWithoutRequest,
            Reason::RejectedExpired,
            Reason::RejectedRevoked,
            Reason::RejectedStaple,
            Reason::RejectedUnknownCa,
            Reason::RejectedUnspecified,
            Reason::RejectedUnsupported,
            Reason::ResetAfterCertificate,
        ];
        REJECTIONS.contains(&self)
    }

    /// The reason behind an error of rustls.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::DecryptError => Reason::CryptoMismatch,
            Error::PeerSentOversizedRecord
            | Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::InvalidEmptyPayload
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::UnknownProtocolVersion,
            ) => Reason::MalformedRecord,
            Error::InvalidMessage(_) => Reason::MalformedHello,
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Reason::UnexpectedMessage
            }
            Error::PeerMisbehaved(PeerMisbehaved::IncorrectBinder) => Reason::BadPskBinder,
            Error::PeerMisbehaved(PeerMisbehaved::MissingPskModesExtension) => Reason::MissingExtension,
            Error::PeerMisbehaved(_) | Error::InvalidEncryptedClientHello(_) | Error::BadMaxFragmentSize => {
                Reason::ProtocolViolation
            }
            Error::NoApplicationProtocol => Reason::NoSharedAlpn,
            Error::NoCertificatesPresented => Reason::ClientCertificateMissing,
            Error::InvalidCertificate(error) => Self::of_client_certificate(error),
            Error::InvalidCertRevocationList(_) => Reason::ClientCertificateRevocationUnknown,
            Error::PeerIncompatible(incompatible) => match incompatible {
                PeerIncompatible::ExtendedMasterSecretExtensionRequired
                | PeerIncompatible::KeyShareExtensionRequired => Reason::MissingExtension,
                PeerIncompatible::NoCipherSuitesInCommon => Reason::NoSharedSuite,
                PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NamedGroupsExtensionRequired
                | PeerIncompatible::NoEcPointFormatsInCommon
                | PeerIncompatible::UncompressedEcPointsRequired => Reason::NoSharedGroup,
                PeerIncompatible::NoSignatureSchemesInCommon => Reason::NoSharedSignatureScheme,
                PeerIncompatible::SignatureAlgorithmsExtensionRequired => Reason::Sha1Only,
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled => Reason::NoSharedVersion,
                // The rest is about extensions that a client must send and did not; the enum is open.
                _ => Reason::ProtocolViolation,
            },
            // A P-384 or P-521 leaf and a TLS 1.2 client that cannot verify it; rustls has no better word for it.
            Error::General(text) if text == "incompatible signing key" => Reason::NoSharedSignatureScheme,
            // Everything else does not depend on the peer; rustls keeps this enum open.
            _ => Reason::Internal,
        }
    }

    /// What is wrong with a client's certificate. Here at the server, rustls judges no other.
    fn of_client_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::ClientCertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Reason::ClientCertificateNotValidYet
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Reason::ClientCertificateWrongPurpose
            }
            CertificateError::UnknownIssuer => Reason::ClientCertificateUnknownCa,
            CertificateError::Revoked => Reason::ClientCertificateRevoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Reason::ClientCertificateRevocationUnknown,
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Reason::ClientCertificateBadSignature
            }
            // Encoding and constraints; the enum is open.
            _ => Reason::ClientCertificateInvalid,
        }
    }

    /// What a client's alert says.
    pub fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Reason::ClientCancelled,
            AlertDescription::UnknownCA => Reason::RejectedUnknownCa,
            AlertDescription::CertificateExpired => Reason::RejectedExpired,
            AlertDescription::CertificateRevoked => Reason::RejectedRevoked,
            AlertDescription::UnsupportedCertificate => Reason::RejectedUnsupported,
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => Reason::RejectedUnspecified,
            AlertDescription::BadCertificateStatusResponse => Reason::RejectedStaple,
            AlertDescription::DecryptError | AlertDescription::BadRecordMac => Reason::CryptoMismatch,
            // Alerts are a registry that grows.
            _ => Reason::ClientAlert,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
