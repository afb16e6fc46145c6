# shellcheck shell=bash
# What a test cluster is made of: Debian packages, one Go binary, one image.

packages="containerd runc containernetworking-plugins iproute2 nftables iptables conntrack openssl gcc libc6-dev python3 procps"
components="etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns provisioner"

install_packages() {
    local missing=""
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=" $package"
    done
    [ -n "$missing" ] || return 0
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Prints the folder of the binary (with a link for each component) and the pause image. It is named after
# the sources, so that nothing is built twice and nothing old is used.
build() {
    local version_of=k8s.io/component-base/version
    local sources built
    sources=$(cd "$here" && cat main.go provisioner.go go.mod go.sum mkimage.py pause/pause.c lib/build.sh | sha256sum | cut -c1-16)
    built=${XDG_CACHE_HOME:-$HOME/.cache}/registry-ci/testcluster/$sources
    install_packages >&2
    mkdir -p "$built"
    exec 9>"$built.lock"
    flock 9
    if [ ! -e "$built/complete" ]; then
        PATH="$("$here/go-toolchain"):$PATH"
        echo "building the test cluster: minutes the first time" >&2
        (cd "$here" && go build -trimpath -o "$built/testcluster" -ldflags "-s -w -X $version_of.gitVersion=v$version \
            -X $version_of.gitMajor=${version%%.*} -X $version_of.gitMinor=${version:2:2} -X $version_of.gitTreeState=clean \
            -X k8s.io/client-go/pkg/version.gitVersion=v$version" .) >&2
        for component in $components; do ln -sf testcluster "$built/$component"; done
        mkdir -p "$built/pause"
        gcc -static -Os -s -o "$built/pause/pause" "$here/pause/pause.c"
        python3 "$here/mkimage.py" "$built/pause" "$built/pause.tar" docker.io/testcluster/pause:1 --entrypoint /pause
        touch "$built/complete"
    fi
    exec 9>&-
    echo "$built"
}
