//! The operator port: what persons and peers ask of the gateway.

mod answer;
mod deferred;
mod health;
mod lane;
mod ops;
mod peer;
mod reference;

pub use deferred::router as deferred_router;
pub use health::GatewayHealth;
pub use lane::{LanePort, router as lane_router};
pub use ops::{OpsPort, router as ops_router};
pub use peer::router as peer_router;
pub use reference::router as reference_router;
