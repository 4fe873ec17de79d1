//! The fill receiver: persists broker events before it acknowledges them
