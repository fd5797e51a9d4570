#!/bin/sh
# Everything about GPUs, on a machine with one: tests of rows, layers, recorded cases, models and drivers, sanitizers and
# times. Needs the programs of a build with MOA_STATIC_PROGRAMS and nothing else: no network, no compiler.
#
#   tests/cuda/run_all.sh pack BUILD FOLDER    copy what the tests need from the build folder to FOLDER, to carry it there
#   FOLDER/run_all.sh [--quick] [--log DIR]    run it all and print one summary; exit code 0 if nothing failed
#
# MOA_TEST_DEVICE chooses the GPU (cuda:0). --quick leaves out sanitizers and times.
set -u

pack() {
    build=$1 folder=$2 source=$(cd "$(dirname "$0")/../.." && pwd)
    mkdir -p "$folder/fake" "$folder/golden/large" "$folder/models"
    for program in tests/cuda/gpu_tests tools/moa; do
        strip -o "$folder/$(basename $program)" "$build/$program" || exit 1
    done
    cp "$build/tests/cuda/fake/libcuda.so.1" "$folder/fake/"
    cp "$source"/tests/golden/*.safetensors "$folder/golden/"
    cp "$source"/tests/golden/large/*.safetensors "$folder/golden/large/"
    cp "$source"/models/* "$folder/models/"
    cp "$0" "$folder/run_all.sh"
    du -sh "$folder"
}

if [ "${1:-}" = pack ]; then
    [ $# -eq 3 ] || { echo "usage: run_all.sh pack BUILD FOLDER" >&2; exit 2; }
    pack "$2" "$3"
    exit
fi

quick=no log=$(mktemp -d)
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --log) shift; log=$1; mkdir -p "$log" ;;
    *) echo "run_all.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
cd "$(dirname "$0")" || exit 2
here=$(pwd)
export MOA_TEST_DEVICE="${MOA_TEST_DEVICE:-cuda:0}" MOA_TEST_GOLDEN="$here/golden" MOA_TEST_MODELS="$here/models"
failed=0 summary="$log/summary"
: > "$summary"

# note STATUS NAME TEXT
note() {
    [ "$1" = pass ] || [ "$1" = skip ] || failed=$((failed + 1))
    printf '%-5s %-34s %s\n' "$1" "$2" "$3" | tee -a "$summary"
}

# One GoogleTest program: its last lines tell how many passed, failed and were skipped.
tests() {
    name=$1; shift
    "$@" --gtest_brief=1 > "$log/$name.txt" 2>&1
    code=$?
    text=$(grep -E '^\[  (PASSED|FAILED|SKIPPED) \]|^\[  PASSED' "$log/$name.txt" | grep -E 'tests?[.,]|listed' | tr '\n' ' ')
    if [ $code -ne 0 ]; then
        note FAIL "$name" "exit code $code; $text($log/$name.txt)"
        grep -m 3 -E 'Failure|error' -A 3 "$log/$name.txt"
    elif ! grep -q 'PASSED  \] [1-9]' "$log/$name.txt"; then
        note skip "$name" "$(grep -m 1 -iE 'skipped|not' "$log/$name.txt")"
    else
        note pass "$name" "$text"
    fi
}

if ! ./moa devices > "$log/devices.txt" || ! grep -q '^cuda:' "$log/devices.txt"; then
    cat "$log/devices.txt"
    echo "run_all.sh: no GPU, nothing is tested"
    exit 0
fi
grep '^cuda:' "$log/devices.txt"

operations="router_scores row_statistics coordinate_descent coordinate_descent_step coordinate_descent_finish select_tokens route_slots select_slots copy_indices
    project attention local_attention combine rotary_table"
for op in $operations; do
    tests "ops.$op" ./gpu_tests --op "$op" "--gtest_filter=${op}_*_gpu*"
done
tests plans ./gpu_tests '--gtest_filter=GpuTest.*'
tests selection ./gpu_tests '--gtest_filter=GpuRows.*:DeviceCode.*'
tests layers ./gpu_tests '--gtest_filter=MixtureTest.*:AttentionLayer.*:Mixture.*'
tests golden ./gpu_tests '--gtest_filter=Cases/Golden.*'
tests golden.rows ./gpu_tests '--gtest_filter=*EachRow*cuda*'
tests models ./gpu_tests '--gtest_filter=*Recorded.*:MaskedLm.*'
LD_LIBRARY_PATH="$here/fake" tests driver ./gpu_tests '--gtest_filter=FakeDriver.*'
LD_LIBRARY_PATH="$here/fake" MOA_FAKE_DRIVER=none tests no_device ./gpu_tests '--gtest_filter=NoDevice.*'
for numbers in "f32 exact" "f32 tf32" "bf16 exact" "f16 exact"; do
    set -- $numbers
    ./moa verify --device "$MOA_TEST_DEVICE" --dtype "$1" --precision "$2" golden/*.safetensors golden/large/*.safetensors > "$log/verify.$1.$2.txt" 2>&1
    case $? in
    0) note pass "moa verify $1 $2" "$(tail -1 "$log/verify.$1.$2.txt")" ;;
    3) note skip "moa verify $1 $2" "$(tail -1 "$log/verify.$1.$2.txt")" ;;
    *) note FAIL "moa verify $1 $2" "$(tail -1 "$log/verify.$1.$2.txt") ($log/verify.$1.$2.txt)" ;;
    esac
done

sanitize() {
    tool=$1 name=$2; shift 2
    compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 "$@" --gtest_brief=1 > "$log/$tool.$name.txt" 2>&1
    code=$?
    text=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log/$tool.$name.txt" | tr '\n' ' ')
    if [ $code -eq 0 ]; then note pass "$tool $name" "$text"; else note FAIL "$tool $name" "exit code $code; $text($log/$tool.$name.txt)"; fi
}
if [ $quick = no ] && command -v compute-sanitizer > "$log/which"; then
    for tool in memcheck racecheck initcheck; do
        # Small shapes: a sanitizer slows kernels a hundredfold.
        for op in $operations; do
            sanitize $tool "ops.$op" ./gpu_tests --op "$op" "--gtest_filter=${op}_*_gpu.n*:${op}_*_gpu.k*:${op}_*_gpu.q*:${op}_*_gpu.r*:${op}_*_gpu.b*:${op}_*_gpu.d*"
        done
    done
    sanitize memcheck plans ./gpu_tests '--gtest_filter=GpuTest.*'
elif [ $quick = no ]; then
    note skip sanitizers "there is no compute-sanitizer"
fi
if [ $quick = no ]; then
    for dtype in f32 bf16; do
        ./moa bench --suite reference --device "$MOA_TEST_DEVICE" --dtype $dtype --min-time 0.1 > "$log/bench.$dtype.txt" 2>&1
        code=$?
        cat "$log/bench.$dtype.txt"
        if [ $code -eq 0 ]; then note pass "moa bench $dtype" ""; else note FAIL "moa bench $dtype" "exit code $code"; fi
    done
fi

echo "--- summary"
cat "$summary"
echo "$(grep -c '^pass' "$summary") passed, $failed failed, $(grep -c '^skip' "$summary") skipped"
[ $failed -eq 0 ]
