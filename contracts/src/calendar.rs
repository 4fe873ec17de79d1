//! Market sessions, in exchange time.
