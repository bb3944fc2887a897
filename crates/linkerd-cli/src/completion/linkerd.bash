# bash completion for linkerd; load it with: source <(linkerd completion bash)
_linkerd() {
    local line="${COMP_LINE:0:COMP_POINT}" word answer
    local -a words
    # COMP_WORDS has --flag=value in pieces.
    read -ra words <<< "$line"
    [[ "$line" == *[[:blank:]] ]] && words+=("")
    mapfile -t answer < <("${words[0]}" __complete -- "${words[@]:1}" 2> /dev/null)
    COMPREPLY=()
    [[ ${#answer[@]} -gt 0 ]] || return
    if [[ "${answer[-1]}" == :0 ]]; then
        compopt -o default
        return
    fi
    # Of a word like --flag=value only what follows the last break is replaced.
    local kept="${words[-1]%"$2"}"
    for word in "${answer[@]:0:${#answer[@]}-1}"; do
        word="${word%%$'\t'*}"
        COMPREPLY+=("${word#"$kept"}")
    done
}
complete -o nosort -F _linkerd linkerd
