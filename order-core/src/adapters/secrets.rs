//! Secrets from the system's random source.

use crate::application::query::SecretSource;
use uuid::Uuid;

/// Random secrets: a generator for cryptography, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSecrets;

impl SecretSource for SystemSecrets {
    fn secret(&self) -> [u8; 32] {
        rand::random()
    }

    fn id(&self) -> Uuid {
        Uuid::new_v4()
    }
}
