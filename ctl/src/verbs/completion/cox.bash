# Completion of cox's command lines in bash: source <(cox completion bash)

__cox_complete()
{
    local line=${COMP_LINE:0:COMP_POINT} words current program out directive candidate text before char
    read -ra words <<< "$line"
    # Behind a blank a new word begins.
    [[ $line == *[[:blank:]] ]] && words+=("")
    current=${words[${#words[@]}-1]}
    # It may be called by its path, or by another name.
    program=$(type -P -- "${words[0]}") || program=cox
    out=$("$program" __complete "${words[@]:1}" 2>/dev/null) || return
    directive=${out##*:}
    out=${out%:*}

    # Of --flag=value only the value is completed.
    [[ $current == -*=* ]] && current=${current#*=}
    # Where bash sees the end of a word, what stands before is not to be repeated.
    before=""
    for char in : =; do
        if [[ $current == *$char* && $COMP_WORDBREAKS == *$char* ]]; then
            text=${current%"${current##*"$char"}"}
            (( ${#text} > ${#before} )) && before=$text
        fi
    done

    COMPREPLY=()
    while IFS='' read -r candidate; do
        text=${candidate%%$'\t'*}
        [[ -n $text && $text == "$current"* ]] || continue
        COMPREPLY+=("${candidate#"$before"}")
    done <<< "$out"
    if (( ${#COMPREPLY[@]} == 1 )); then
        COMPREPLY[0]=${COMPREPLY[0]%%$'\t'*}
    else
        COMPREPLY=("${COMPREPLY[@]/$'\t'/  -- }")
    fi
    (( directive & 2 )) && compopt -o nospace
    (( directive & 4 )) && compopt +o default
    return 0
}

complete -o default -F __cox_complete cox
