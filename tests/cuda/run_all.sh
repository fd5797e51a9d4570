#!/bin/sh
# Everything about GPUs, on a machine with one: tests of rows, layers, recorded cases, models and drivers, sanitizers, the code
# that drivers compile of PTX, and times. Needs what `pack` makes of a build with MOA_STATIC_PROGRAMS, and nothing else: no
# network, no compiler.
#
#   tests/cuda/run_all.sh pack BUILD FOLDER    copy what the tests need from the build folder to FOLDER, to carry it there
#   FOLDER/run_all.sh [--quick] [--only PATTERN] [--log DIR]
#                                              run it all and print one summary; exit code 0 if nothing failed
#
# --quick leaves out sanitizers and times; --only runs the parts whose names match the shell pattern, such as 'racecheck.*'.
# MOA_TEST_DEVICE chooses the GPU (cuda:0), MOA_TEST_JOBS how many programs share it (the number of processors), MOA_TEST_TIMEOUT
# how many seconds one of them may take (300).
set -u

pack() {
    build=$1 folder=$2 source=$(cd "$(dirname "$0")/../.." && pwd)
    mkdir -p "$folder/fake" "$folder/golden/large" "$folder/models"
    strip -o "$folder/gpu_tests" "$build/tests/cuda/gpu_tests" || exit 1
    ln -sf gpu_tests "$folder/moa" # which of the two it is, the program knows by its name
    cp "$build/tests/cuda/fake/libcuda.so.1" "$folder/fake/"
    cp "$source"/tests/golden/*.safetensors "$folder/golden/"
    cp "$source"/tests/golden/large/*.safetensors "$folder/golden/large/"
    cp "$source"/models/* "$folder/models/"
    cp "$0" "$folder/run_all.sh"
    du -sh "$folder"
    bytes=$(wc -c < "$folder/gpu_tests")
    echo "programs: $((bytes / 1048576)) MiB"
    # Rows of attention hold what computes a row again, 35 KB each: 2.4 of 32.5 MiB.
    [ "$bytes" -le $((36 * 1048576)) ] || { echo "run_all.sh: the programs are to stay under 36 MiB" >&2; exit 1; }
}

# note STATUS NAME TEXT
note() {
    printf '%-5s %-36s %s\n' "$1" "$2" "$3"
}

# One program, for what its exit code and output are worth: job KIND NAME LOG COMMAND...
job() {
    kind=$1 name=$2 log=$3 file="$3/$2.txt"; shift 3
    began=$(date +%s)
    timeout -k 5 "${MOA_TEST_TIMEOUT:-300}" "$@" > "$file" 2>&1
    code=$?
    took="$(($(date +%s) - began)) s"
    case $kind in
    tests) # GoogleTest's last lines say how many passed, failed and were skipped
        text=$(grep -E '^\[  (PASSED|FAILED|SKIPPED) +\]' "$file" | grep -E 'tests?[.,]|listed' | tr '\n' ' ')
        if [ $code -ne 0 ]; then
            note FAIL "$name" "exit code $code; $text($file)"
            grep -m 3 -A 3 -E 'Failure|error' "$file"
        elif ! grep -q 'PASSED  \] [1-9]' "$file"; then
            note skip "$name" "$(grep -m 1 -iE 'skipped|not' "$file")"
        else
            note pass "$name" "$took; $text"
        fi
        ;;
    sanitizer)
        text=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY|PASSED  \]' "$file" | tr -s '=\n' '  ')
        if [ $code -eq 0 ]; then
            note pass "$name" "$took; $text"
        else
            note FAIL "$name" "exit code $code; $text($file)"
            grep -m 6 -E 'Failure|=========' "$file"
        fi
        ;;
    verify)
        case $code in
        0) note pass "$name" "$took; $(tail -1 "$file")" ;;
        3) note skip "$name" "$(tail -1 "$file")" ;;
        *) note FAIL "$name" "$(tail -1 "$file") ($file)" ;;
        esac
        ;;
    *)
        if [ $code -eq 0 ]; then note pass "$name" "$took; $(tail -1 "$file")"; else note FAIL "$name" "exit code $code; $(tail -1 "$file") ($file)"; fi
        ;;
    esac > "$log/$name.result"
    cat "$log/$name.result"
}

# The outputs of all recorded cases, by machine code and by what the driver makes of the PTX, are the same bits.
same_code() {
    folder=$(mktemp -d) differ=0 cases=0
    for file in golden/*.safetensors golden/large/*.safetensors; do
        ./moa run --device "$MOA_TEST_DEVICE" "$file" -o "$folder/machine_code" > "$folder/said" 2>&1 || { tail -1 "$folder/said"; continue; }
        CUDA_FORCE_PTX_JIT=1 ./moa run --device "$MOA_TEST_DEVICE" "$file" -o "$folder/ptx" || return 1
        cases=$((cases + 1))
        cmp "$folder/machine_code" "$folder/ptx" || differ=$((differ + 1))
    done
    rm -r "$folder"
    echo "$cases cases, $differ of them with other bits"
    [ $differ -eq 0 ]
}

# How long a process takes that plans one layer and runs it, with machine code and with PTX that the driver has to compile.
load_times() {
    folder=$(mktemp -d)
    run="./moa run --device $MOA_TEST_DEVICE --dtype bf16 golden/large/moa_self_d64_e4_rotary_fixed.safetensors -o $folder/out"
    milliseconds() {
        began=$(date +%s%N)
        "$@" > "$folder/said" 2>&1 || { tail -1 "$folder/said"; return 1; }
        echo $((($(date +%s%N) - began) / 1000000))
    }
    driver=$(milliseconds ./moa devices) && code=$(milliseconds $run) && ptx=$(CUDA_FORCE_PTX_JIT=1 CUDA_CACHE_DISABLE=1 milliseconds $run) || return 1
    rm -r "$folder"
    echo "a process that plans and runs a layer: machine code $code ms, PTX $ptx ms; one that lists devices: $driver ms"
}

case ${1:-} in
pack)
    [ $# -eq 3 ] || { echo "usage: run_all.sh pack BUILD FOLDER" >&2; exit 2; }
    pack "$2" "$3"
    exit
    ;;
job) shift; job "$@"; exit ;;
same_code) same_code; exit ;;
load_times) load_times; exit ;;
esac

quick=no only='*' log=$(mktemp -d)
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --only) shift; only=$1 ;;
    --log) shift; log=$1; mkdir -p "$log" ;;
    *) echo "run_all.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
cd "$(dirname "$0")" || exit 2
here=$(pwd) log=$(cd "$log" && pwd)
export MOA_TEST_DEVICE="${MOA_TEST_DEVICE:-cuda:0}" MOA_TEST_GOLDEN="$here/golden" MOA_TEST_MODELS="$here/models"
jobs=${MOA_TEST_JOBS:-$(nproc)}

if ! ./moa devices > "$log/devices.txt" || ! grep -q '^cuda:' "$log/devices.txt"; then
    cat "$log/devices.txt"
    echo "run_all.sh: no GPU, nothing is tested"
    exit 0
fi
grep '^cuda:' "$log/devices.txt"
began=$(date +%s)
: > "$log/names"

# add KIND NAME COMMAND...: to be run with others of its list: run_list PROGRAMS does that, so many at once.
add() {
    kind=$1 name=$2; shift 2
    case $name in
    $only) ;;
    *) return ;;
    esac
    if [ "$kind" != verify ] && [ "$kind" != program ]; then set -- "$@" --gtest_brief=1; fi
    echo "$name" >> "$log/names"
    printf "'%s' " "$here/run_all.sh" job "$kind" "$name" "$log" "$@" >> "$log/list"
    echo >> "$log/list"
}
run_list() {
    [ -f "$log/list" ] || return
    tr '\n' '\0' < "$log/list" | xargs -0 -P "$1" -n 1 sh -c
    rm -f "$log/list"
}

operations=$(./gpu_tests --list-ops) && [ -n "$operations" ] || { echo "run_all.sh: gpu_tests does not list its operations" >&2; exit 2; }
for op in $operations; do
    add tests "ops.$op" ./gpu_tests --op "$op" "--gtest_filter=${op}_*_gpu*"
    add tests "ptx.$op" env CUDA_FORCE_PTX_JIT=1 ./gpu_tests --op "$op" --brief "--gtest_filter=${op}_*_gpu*"
done
add tests plans ./gpu_tests '--gtest_filter=GpuTest.*'
add tests long ./gpu_tests '--gtest_filter=GpuLong.*:Mixture.AMillionPositions'
add tests selection ./gpu_tests '--gtest_filter=GpuRows.*:DeviceCode.*'
add tests layers ./gpu_tests '--gtest_filter=MixtureTest.*:AttentionLayer.*:Mixture.*:WideWindows.*:NotFinite*'
add tests random env MOA_RANDOM_LAYERS=200 ./gpu_tests '--gtest_filter=RandomLayers.*'
add tests golden ./gpu_tests '--gtest_filter=Cases/Golden.*'
add tests golden.rows ./gpu_tests '--gtest_filter=*EachRow*cuda*:SpecialisedRows.*'
add tests models ./gpu_tests '--gtest_filter=*Recorded.*:MaskedLm.*'
add tests fork ./gpu_tests '--gtest_filter=ForkedDriver.*'
add tests driver env "LD_LIBRARY_PATH=$here/fake" ./gpu_tests '--gtest_filter=FakeDriver.*:FakeProduct.*:ForkedDriver.*'
add tests unopened env "LD_LIBRARY_PATH=$here/fake" ./gpu_tests '--gtest_filter=FakeDriverUnopened.*'
add tests stub env "LD_LIBRARY_PATH=$here/fake" MOA_FAKE_DRIVER=stub ./gpu_tests '--gtest_filter=Stub.*'
add tests no_device env "LD_LIBRARY_PATH=$here/fake" MOA_FAKE_DRIVER=none ./gpu_tests '--gtest_filter=NoDevice.*'
for numbers in "f32 exact" "f32 tf32" "bf16 exact" "f16 exact"; do
    set -- $numbers
    add verify "verify.$1.$2" ./moa verify --device "$MOA_TEST_DEVICE" --dtype "$1" --precision "$2" golden/*.safetensors golden/large/*.safetensors
done
add program same_code "$here/run_all.sh" same_code
run_list "$jobs"

if [ $quick = no ] && command -v compute-sanitizer > "$log/which"; then
    for tool in memcheck racecheck initcheck; do
        sanitizer="compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5"
        for op in $operations; do
            case $op in # those with many rows or slow ones
            attention | local_attention | project) parts=6 ;;
            coordinate_descent | select_tokens | select_slots) parts=3 ;;
            *) parts=1 ;;
            esac
            part=0
            while [ $part -lt $parts ]; do
                add sanitizer "$tool.$op.$part" env GTEST_TOTAL_SHARDS=$parts GTEST_SHARD_INDEX=$part \
                    $sanitizer ./gpu_tests --op "$op" --brief "--gtest_filter=${op}_*_gpu*"
                part=$((part + 1))
            done
        done
    done
    # Of plans and layers only what memcheck looks at: their kernels are the rows above. Without the test that asks for too much
    # memory: a refused allocation is an error to the sanitizer.
    sanitizer="compute-sanitizer --tool memcheck --error-exitcode 9 --print-limit 5"
    add sanitizer memcheck.plans $sanitizer ./gpu_tests '--gtest_filter=GpuTest.*-*OutOfMemory*'
    add sanitizer memcheck.layers $sanitizer ./gpu_tests '--gtest_filter=MixtureTest.*:AttentionLayer.*'
    run_list "$jobs"
elif [ $quick = no ]; then
    echo sanitizers >> "$log/names"
    note skip sanitizers "there is no compute-sanitizer" > "$log/sanitizers.result"
fi
if [ $quick = no ]; then # alone on the GPU
    add program load_times "$here/run_all.sh" load_times
    for dtype in f32 bf16; do
        add program "bench.$dtype" ./moa bench --suite reference --device "$MOA_TEST_DEVICE" --dtype $dtype --min-time 0.1
    done
    run_list 1
    for file in "$log"/bench.*.txt; do
        if [ -f "$file" ]; then cat "$file"; fi
    done
fi

echo "--- summary"
while read -r name; do
    cat "$log/$name.result" || note FAIL "$name" "it was not run"
done < "$log/names" > "$log/summary" 2>&1
cat "$log/summary"
failed=$(grep -c '^FAIL' "$log/summary")
echo "$(grep -c '^pass' "$log/summary") passed, $failed failed, $(grep -c '^skip' "$log/summary") skipped, in $(($(date +%s) - began)) s"
[ "$failed" -eq 0 ]
