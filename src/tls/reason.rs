//! Each way a handshake fails: label, whose fault it is, the alert we send, and the remedy.
//!
//! `what the peer sent, or rustls::Error ──▶ Reason ──▶ counter, alert, log line`
//!
//! Closed, and without data: a label never carries bytes from the network. Facts behind the mapping: a client's
//! rejection of our certificate reaches us as an alert, as a silent close, or not at all.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// Whose fault a failure is: who has to act.
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
              checks of load balancers do that, port scanners, and clients that connect ahead.",
    fault: "nobody",
    remedy: "nothing; if there are many, see which load balancer checks the port, and how often",
};

/// What is to be said about a reason, whatever the connection.
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
        /// Why a connection to the TLS port did not become a working TLS connection.
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
        "The client proved its session ticket with a wrong key (RFC 8446 section 4.2.11.2): the session that it remembers is not the one in the ticket."
        "look for replicas that share ticket keys and not sessions; if it is one client only, its session cache is broken";
    CbcOnly "cbc-only" Client HandshakeFailure
        "The client offers only cipher suites in CBC mode or older ones. None of them protects records well enough to be served (RFC 7457 section 2)."
        "update the client: it needs a suite with AES-GCM or ChaCha20-Poly1305";
    ClientAlert "client-alert" Client none
        "The client ended the handshake with an alert that does not speak of our certificate."
        "look at the client's own log: its settings (for example a minimum version) refuse what this host offers";
    ClientCancelled "client-cancelled" Client none
        "The client closed the handshake in good order (close_notify or user_canceled)."
        "nothing, unless it happens often: then the client gives up early, for example on a slow path";
    ClientCertificateBadSignature "client-certificate-bad-signature" Client DecryptError
        "A signature on the client's certificate, or above it, does not verify or is of a kind that is not verified; often a CA of the same name has another key now."
        "compare it with the host's client CAs: `openssl verify -CAfile ca.crt -purpose sslclient -untrusted intermediates.pem client.pem`";
    ClientCertificateExpired "client-certificate-expired" Client CertificateExpired
        "The client's certificate, or one above it, has expired (RFC 5280 section 6.1.3)."
        "renew the client's certificate; if it is in date, correct this machine's clock";
    ClientCertificateInvalid "client-certificate-invalid" Client BadCertificate
        "The client's certificate cannot be used: it is malformed, or a constraint of its issuer is violated."
        "compare it with the host's client CAs: `openssl verify -CAfile ca.crt -purpose sslclient -untrusted intermediates.pem client.pem`";
    ClientCertificateMissing "client-certificate-missing" Client CertificateRequired
        "The host asks for a certificate, and the client sent none (RFC 8446 section 4.4.2.4)."
        "give the client a certificate and its key; if it has one, let it be issued by one of the host's client CAs, because clients send none that these did not issue";
    ClientCertificateNotValidYet "client-certificate-not-valid-yet" Client CertificateExpired
        "The client's certificate, or one above it, is not valid yet (RFC 5280 section 6.1.3)."
        "wait, or correct the clock of the CA or of this machine";
    ClientCertificateRevocationUnknown "client-certificate-revocation-unknown" Policy UnknownCA
        "The host's revocation lists (ca.crl) say nothing about the client's certificate, or one above it: its issuer has no list there, or one that has expired or that is not signed with the issuer's key (RFC 5280 section 6.3)."
        "put the current list of each issuer, intermediates included, into ca.crl of the Secret with the host's client CAs";
    ClientCertificateRevoked "client-certificate-revoked" Client CertificateRevoked
        "The client's certificate, or one above it, is in its issuer's revocation list (RFC 5280 section 6.3)."
        "give the client a new certificate; if this one was not to be revoked, put the CA's current list into ca.crl of the Secret";
    ClientCertificateUnknownCa "client-certificate-unknown-ca" Client UnknownCA
        "No chain leads from the client's certificate to the host's client CAs: another issuer, or the client left its intermediates out."
        "let the client send its intermediates, or add its CA to the Secret with the host's client CAs";
    ClientCertificateWrongPurpose "client-certificate-wrong-purpose" Client UnsupportedCertificate
        "The client's certificate may not be used for clients (extended key usage without clientAuth, RFC 5280 section 4.2.1.12)."
        "have the client's certificate issued for client authentication (extended key usage clientAuth)";
    ClosedAfterCertificate "closed-after-certificate" Certificate none
        "The client closed the connection after it had seen our certificate, without an alert. Node, the HttpClient of Java and some BoringSSL clients reject certificates in this way."
        "treat it like a rejected certificate: check chain, names and dates of the host's certificate";
    ClosedInHello "closed-in-hello" Network none
        "The client closed the connection in the middle of its first message."
        "check for a middlebox that cuts large first messages (post-quantum hellos are longer than one packet)";
    CryptoMismatch "crypto-mismatch" Network DecryptError
        "A message did not decrypt or verify, here or at the client: bytes changed on the way, or a middlebox answers in our place."
        "look for a TLS-intercepting device between client and host";
    EstablishedWithoutRequest "established-without-request" Certificate none
        "The handshake is complete, and the client left without a byte. That is no failure; but some clients (curl for a wrong name, BoringSSL ones for anything) reject certificates in this way. Browsers that connect ahead and health checks look the same."
        "if one host has more of these than others, check chain, names and dates of its certificate with `handfast check`";
    HostRefused "host-refused" Certificate UnrecognisedName
        "The host is configured, but its Secret holds nothing that can be served, and there is no default certificate."
        "run `handfast check`: it names the Secret and what is wrong with it";
    HostWithoutTls "host-without-tls" Certificate UnrecognisedName
        "The host is configured without TLS, and neither a wildcard host's certificate nor a default certificate covers it."
        "add a `tls` entry for the host to its Ingress, or set --default-tls-secret";
    Internal "internal" Server InternalError
        "A fault of Handfast itself."
        "please report it with the log lines around it";
    MalformedHello "malformed-hello" Client DecodeError
        "The first message is TLS, but not a well-formed ClientHello (RFC 8446 section 4.1.2)."
        "capture the connection: a scanner, or a broken client";
    MalformedRecord "malformed-record" Client RecordOverflow
        "A record is longer than TLS allows, empty, or of no version of TLS (RFC 8446 section 5.1)."
        "capture the connection: a scanner, a broken client, or a device that changes bytes";
    MissingExtension "missing-extension" Client MissingExtension
        "The client leaves out an extension that the version it asks for requires (RFC 8446 section 9.2)."
        "capture the connection: a broken client or a scanner";
    NoServerName "no-server-name" Client UnrecognisedName
        "The client named no server (RFC 6066 section 3), and there is no default certificate."
        "let the client send SNI, or set --default-tls-secret";
    NoSharedAlpn "no-shared-alpn" Client NoApplicationProtocol
        "The client asked for application protocols that this host does not speak (RFC 7301 section 3.2)."
        "let the client offer h2 or http/1.1";
    NoSharedGroup "no-shared-group" Client HandshakeFailure
        "The client offers no key exchange group that this host has."
        "update the client: it needs X25519, P-256 or P-384";
    NoSharedSignatureScheme "no-shared-signature-scheme" Certificate HandshakeFailure
        "The client cannot verify a signature by the key of this host's certificate: it knows the kind of key, and not this curve or hash."
        "use a certificate with a P-256 or RSA key";
    NoSharedSuite "no-shared-suite" Client HandshakeFailure
        "The client offers no cipher suite that this host has (RFC 8446 section 4.1.1)."
        "compare the offered suites with those of the host's policy";
    NoSharedVersion "no-shared-version" Client ProtocolVersion
        "The client offers only protocol versions that this host does not serve: usually TLS 1.0 and 1.1."
        "update the client: TLS 1.2 is the oldest version served (RFC 8996)";
    NotTls "not-tls" Client none
        "The first bytes are neither TLS nor any protocol that is recognised."
        "find out who connects: a scanner, or a client with the wrong port";
    Overloaded "overloaded" Server none
        "A limit on connections or handshakes was reached; the connection was closed at once."
        "add replicas or workers, or raise --max-connections or --max-handshakes";
    PlainHttp "plain-http" Client none
        "Plain HTTP came to the TLS port. It is answered with a 400 that says so."
        "use https:// for this port";
    ProtocolViolation "protocol-violation" Client IllegalParameter
        "The client broke the protocol: a value that is not allowed, or one that contradicts what it said before."
        "capture the connection: a broken client or a scanner";
    ProxyHeader "proxy-header" Network none
        "A PROXY protocol header came, and this listener does not expect one."
        "switch --proxy-protocol on, or the load balancer's PROXY protocol off";
    ProxyHeaderMissing "proxy-header-missing" Network none
        "This listener expects a PROXY protocol header, and none came, or a malformed one."
        "switch the load balancer's PROXY protocol on, or --proxy-protocol off";
    RejectedExpired "rejected-expired" Certificate none
        "The client says that our certificate is expired (certificate_expired). If it is not, the client's clock is wrong."
        "renew the certificate; if `handfast check` finds it in date, correct the client's clock";
    RejectedRevoked "rejected-revoked" Certificate none
        "The client says that our certificate is revoked (certificate_revoked)."
        "have the certificate issued again";
    RejectedStaple "rejected-staple" Certificate none
        "The client did not accept the OCSP response (bad_certificate_status_response)."
        "have the certificate issued again without must-staple";
    RejectedUnknownCa "rejected-unknown-ca" Certificate none
        "The client knows no issuer of our certificate (unknown_ca): an incomplete chain, or a private CA."
        "add the intermediate certificates to tls.crt, or the private root to the client's trust store";
    RejectedUnspecified "rejected-unspecified" Certificate none
        "The client rejects our certificate without saying why (bad_certificate, certificate_unknown), as Java, Go and GnuTLS do for every cause."
        "check chain, names and dates of the host's certificate with `handfast check`";
    RejectedUnsupported "rejected-unsupported" Certificate none
        "The client cannot use our certificate (unsupported_certificate), for example because it may not be used for servers."
        "have the certificate issued for server authentication, with a common key type";
    ResetAfterCertificate "reset-after-certificate" Certificate none
        "The client, or something in front of it, reset the connection after it had seen our certificate, without an alert."
        "treat it like a rejected certificate: check chain, names and dates of the host's certificate; if these are good, look for a middlebox";
    ResetInHello "reset-in-hello" Network none
        "The connection was reset in the middle of the client's first message."
        "check for a middlebox that resets large or unknown first messages";
    Sha1Only "sha1-only" Client HandshakeFailure
        "The client knows SHA-1 signatures only, or lists no signature algorithms, which means the same (RFC 5246 section 7.4.1.4.1, RFC 9155)."
        "update the client: it needs SHA-256 signatures";
    ShutDown "shut-down" Server none
        "The process was made to end before the handshake was complete: by a second signal, or by the end of --drain-timeout."
        "nothing; if it happens in each rollout, raise --drain-timeout and the grace period of the pod";
    Ssh "ssh" Client none
        "An SSH client came to the TLS port."
        "correct the client's port";
    Sslv2 "sslv2" Client ProtocolVersion
        "The client sent an SSL 2.0 hello. Such clients cannot be served (RFC 6176)."
        "update the client";
    StaticRsaOnly "static-rsa-only" Client HandshakeFailure
        "The client offers only cipher suites without an ephemeral key exchange, such as static RSA. They have no forward secrecy and cannot be served (RFC 9325 section 4.1)."
        "update the client: it needs an ECDHE suite with AES-GCM or ChaCha20-Poly1305";
    TimeoutAfterCertificate "timeout-after-certificate" Network none
        "The client went silent after our certificate was sent; often our answer never arrives, because it is larger than the path's MTU."
        "check the path MTU between client and host";
    TimeoutBeforeHello "timeout-before-hello" Network none
        "The client connected and sent nothing until the deadline."
        "find out who holds connections open: a health check, or a port scanner";
    TimeoutInHello "timeout-in-hello" Network none
        "The client's first message did not become complete until the deadline."
        "check the path MTU and middleboxes: post-quantum hellos are longer than one packet";
    TooMuchEarlyData "too-much-early-data" Client BadRecordMac
        "The client sent more early data (RFC 8446 section 4.2.10) than is passed over: 16 KiB. Its session allows it and is not one of ours, or not one any more."
        "have the client send less early data; look whether it takes sessions of another server for ones of this";
    UnexpectedMessage "unexpected-message" Client UnexpectedMessage
        "The client sent a message that has no place there (RFC 8446 section 6.2, unexpected_message)."
        "capture the connection: a broken client or a scanner";
    UnknownHost "unknown-host" Client UnrecognisedName
        "No Ingress has this host name, and there is no default certificate (RFC 6066 section 3)."
        "add the host to an Ingress of this class, or correct the client's URL or DNS";
    WrongCertificateType "wrong-certificate-type" Certificate HandshakeFailure
        "The client cannot use a certificate with this kind of key at all: it offers suites or signature schemes for another kind only (ECDSA against RSA)."
        "add a certificate with the other kind of key to the host, ECDSA P-256 beside RSA";
}

impl Reason {
    /// The value of the `reason` label; kebab-case and stable.
    pub fn label(self) -> &'static str {
        self.about().label
    }

    /// Whose fault it is where nothing more is known of the connection. What the offer and the chain say about it can
    /// shift the blame ([`preflight`](crate::tls::preflight), [`rejection`](crate::tls::rejection)).
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
