//! What the gateway does, against traits: claim, call, record, take in, settle.

pub mod alarm;
pub mod case;
pub mod chain;
pub mod change;
pub mod claim;
pub mod dossier;
pub mod intake;
pub mod lane;
pub mod lane_control;
pub mod lane_rate;
pub mod launch;
pub mod ports;
pub mod record;
pub mod recorder;
pub mod reference;
pub mod request;
pub mod rules;
pub mod settlement;
pub mod wire;
