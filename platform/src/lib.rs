//! The chassis every process starts from: configuration, telemetry, database, event log, bus, locks, shutdown
