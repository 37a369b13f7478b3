#compdef cox
# Completion of cox's command lines in zsh: source <(cox completion zsh)

_cox()
{
    local -a lines found
    local out directive line current=${words[CURRENT]}
    out=$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null) || return
    lines=("${(@f)out}")
    directive=${lines[-1]#:}
    # Of --flag=value only the value is completed.
    [[ $current == -*=* ]] && compset -P '*='
    for line in "${(@)lines[1,-2]}"; do
        [[ -z $line ]] && continue
        # A colon parts what is written from what is said of it.
        local text=${line%%$'\t'*}
        text=${text//:/\\:}
        if [[ $line == *$'\t'* ]]; then
            found+=("$text:${line#*$'\t'}")
        else
            found+=("$text")
        fi
    done
    if (( ${#found} )); then
        if (( directive & 2 )); then
            _describe -V cox found -S ''
        else
            _describe -V cox found
        fi
    elif (( ! (directive & 4) )); then
        _files
    fi
}

# Sourced in an interactive shell, or found by compinit in $fpath.
if [[ $funcstack[1] == _cox ]]; then
    _cox "$@"
elif (( $+functions[compdef] )); then
    compdef _cox cox
fi
