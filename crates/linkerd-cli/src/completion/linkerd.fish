# fish completion for linkerd; load it with: linkerd completion fish | source
function __linkerd_complete
    set -l words (commandline -opc) (commandline -ct | string collect --allow-empty)
    set -l answer ($words[1] __complete -- $words[2..-1] 2> /dev/null)
    if test "$answer[-1]" = :0
        __fish_complete_path (commandline -ct)
    else if test (count $answer) -gt 1
        printf '%s\n' $answer[1..-2]
    end
end
complete --command linkerd --no-files --keep-order --arguments '(__linkerd_complete)'
