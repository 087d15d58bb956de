//! Connections that cost their peer nothing: silent, slow, or without end.
