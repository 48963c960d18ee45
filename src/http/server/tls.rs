//! The TLS certificate, where headcount terminates TLS itself. It is reloaded while serving, so that a
//! renewed one needs no restart: open connections keep the old certificate, new ones get the new one.
//!
//! Bounded: a file of more than [`FILE_MAX`] bytes is refused. If the two files do not match (a race: one is
//! written before the other), the old pair stays.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Bytes of a file, at most: a chain of certificates has a few thousand.
const FILE_MAX: u64 = 256 * 1024;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, std::io::Error),
    /// The content of the file cannot be used.
    #[error("{}: {}", .0.display(), .1)]
    Content(PathBuf, String),
    /// The key is not the certificate's, or of an unknown kind.
    #[error("certificate and key: {0}")]
    Pair(rustls::Error),
}

/// A certificate and its key, from two files.
pub struct Certificate {
    chain_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the chain (the server's own certificate first) and its key, both in PEM.
    pub fn open(chain_file: PathBuf, key_file: PathBuf) -> Result<Self, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let current = RwLock::new(Arc::new(read(&provider, &chain_file, &key_file)?));
        Ok(Self { chain_file, key_file, provider, current })
    }

    /// Reads the files again. Returns whether the certificate has changed.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let read = read(&self.provider, &self.chain_file, &self.key_file)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let other = read.cert != current.cert;
        if other {
            *current = Arc::new(read);
        }
        Ok(other)
    }

    /// How connections are accepted: TLS 1.2 or 1.3, with whatever certificate there is at the time, and HTTP/1.1 in it.
    pub fn accept(self: &Arc<Self>) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain_file", &self.chain_file).finish_non_exhaustive()
    }
}

fn read(provider: &CryptoProvider, chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let content = |error: rustls::pki_types::pem::Error, file: &Path| {
        CertificateError::Content(file.to_owned(), error.to_string())
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes(chain)?)
        .collect::<Result<_, _>>()
        .map_err(|error| content(error, chain))?;
    if certificates.is_empty() {
        return Err(CertificateError::Content(chain.to_owned(), "no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| content(error, key))?;
    CertifiedKey::from_der(certificates, key, provider).map_err(CertificateError::Pair)
}

fn bytes(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(FILE_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| CertificateError::File(file.to_owned(), error))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(CertificateError::Content(file.to_owned(), format!("more than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}
