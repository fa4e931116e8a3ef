#!/bin/sh
# Installs what this archive holds on a host without deb or rpm; `install.sh --uninstall` takes it away again.
#
#     ./install.sh                      # the command, agent and proxy
#     ./install.sh --discovery          # the command and discovery
#     ./install.sh --uninstall          # whatever of it is there; a joined host leaves the mesh first
#
# Programs go to /usr/local/bin, units to /etc/systemd/system. Needs root, systemd and nft.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bin=/usr/local/bin
units=/etc/systemd/system
agent_units="hawser-agent.service hawser-guard.service hawser-proxy.service hawser-proxy.path hawser-ready.target"

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# program...
programs() {
    for program in "$@"; do
        install -D -m 0755 "$here/bin/$program" "$bin/$program"
    done
}

# unit...
units() {
    for unit in "$@"; do
        sed "s|/usr/bin/hawser|$bin/hawser|" "$here/systemd/$unit" >"$units/$unit"
    done
}

# source target: a file that people edit stays as it is
settings() {
    [ -e "$2" ] || install -D -m 0644 "$1" "$2"
}

common() {
    programs hawser
    for page in "$here"/man/*.[18]; do
        install -D -m 0644 "$page" "/usr/local/share/man/man${page##*.}/$(basename "$page")"
    done
    install -D -m 0644 "$here/completions/hawser.bash" /usr/local/share/bash-completion/completions/hawser
}

# part: users and directories
prepare() {
    install -D -m 0644 "$here/sysusers.d/$1.conf" "/etc/sysusers.d/$1.conf"
    install -D -m 0644 "$here/tmpfiles.d/$1.conf" "/etc/tmpfiles.d/$1.conf"
    systemd-sysusers "$1.conf"
    systemd-tmpfiles --create "$1.conf"
}

uninstall() {
    if [ -e /var/lib/hawser/joined.json ]; then
        hawser leave --drain 10s || hawser leave --force
    fi
    systemctl disable --now hawser-proxy.path hawser-agent.service hawser-guard.service hawser-discovery.service 2>/dev/null || :
    systemctl stop hawser-proxy.service 2>/dev/null || :
    for unit in $agent_units hawser-discovery.service; do
        rm -f "$units/$unit"
    done
    rm -f "$bin/hawser" "$bin/hawser-agent" "$bin/hawser-proxy" "$bin/hawser-discovery"
    rm -f /etc/sysusers.d/hawser-*.conf /etc/tmpfiles.d/hawser-*.conf
    rm -f /usr/local/share/man/man1/hawser*.1 /usr/local/share/man/man8/hawser-*.8
    rm -f /usr/local/share/bash-completion/completions/hawser
    rm -rf /run/hawser
    systemctl daemon-reload
    echo "removed; /etc/hawser, /var/lib/hawser, /var/lib/hawser-discovery and the users are left"
}

[ "$(id -u)" = 0 ] || fail "run it as root"
command -v systemctl >/dev/null || fail "it needs systemd"
case "${1:-}" in
"" | --agent)
    command -v nft >/dev/null || [ -x /usr/sbin/nft ] || fail "it needs nft: install nftables"
    before=$(systemctl is-active hawser-agent.service || :)
    common
    programs hawser-agent hawser-proxy
    # shellcheck disable=SC2086
    units $agent_units
    settings "$here/etc/agent.yaml" /etc/hawser/agent.yaml
    prepare hawser-agent
    systemctl daemon-reload
    systemctl enable hawser-guard.service
    systemctl enable --now hawser-proxy.path hawser-agent.service
    if [ "$before" = active ]; then
        # An upgrade: the agent first, then a new proxy takes over from the one that runs, or else that one ends first.
        systemctl restart hawser-agent.service
        if systemctl --quiet is-active hawser-proxy.service; then
            systemctl reload hawser-proxy.service || systemctl try-restart hawser-proxy.service
        fi
    fi
    echo "installed; hawser join makes this host a member"
    ;;
--discovery)
    common
    programs hawser-discovery
    units hawser-discovery.service
    settings "$here/etc/discovery.env" /etc/hawser/discovery.env
    mkdir -p /etc/hawser/config.d
    prepare hawser-discovery
    systemctl daemon-reload
    systemctl enable --now hawser-discovery.service
    echo "installed; hawser token create makes the first join token"
    ;;
--uninstall) uninstall ;;
*) fail "there is no option $1; see the first lines of this file" ;;
esac
