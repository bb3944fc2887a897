#compdef linkerd
# zsh completion for linkerd; load it with: source <(linkerd completion zsh)
_linkerd() {
    local -a answer described
    local line
    answer=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)}")
    if [[ "${answer[-1]}" == :0 ]]; then
        _files
        return
    fi
    for line in "${(@)answer[1,-2]}"; do
        # A colon stands between a value and what it means.
        described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    _describe -V linkerd described
}
if [[ "${funcstack[1]}" == _linkerd ]]; then
    _linkerd
else
    compdef _linkerd linkerd
fi
