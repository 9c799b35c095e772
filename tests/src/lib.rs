//! Integration tests of warmspare.
