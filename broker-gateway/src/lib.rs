//! The broker gateway: idempotent, retried broker calls
