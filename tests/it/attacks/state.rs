//! Scans made to be expensive for the engine.
