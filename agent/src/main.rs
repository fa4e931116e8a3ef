//! `hawser-agent`: one systemd service a host.

use hawser_agent as _;

fn main() {}
