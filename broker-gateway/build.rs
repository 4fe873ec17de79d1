//! The migrations are part of the program: a change of one builds it anew.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/broker-gateway");
}
