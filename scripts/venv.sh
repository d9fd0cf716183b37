# Sourced by the other scripts: `make_venv EXTRAS` leaves .venv with this checkout and those extras installed.
# Does nothing when pyproject.toml and constraints.txt are the ones it was made from.

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer with the venv module was found" >&2
  echo "hint: install one (Debian and Ubuntu: apt install python3 python3-venv), or name it: PYTHON=/path/to/python3" >&2
  return 1
}

make_venv() {
  local extras=$1 stamp wanted python
  stamp=.venv/installed-${extras:-plain}
  wanted=$(cat pyproject.toml constraints.txt | cksum)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv
  fi
  echo "installing depin-orcha${extras:+ with its $extras tools} into .venv (half a minute)" >&2
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt \
    --editable ".${extras:+[$extras]}" >&2
  printf '%s\n' "$wanted" >"$stamp"
}
