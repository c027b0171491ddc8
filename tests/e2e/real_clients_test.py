"""Clients from their registries (deploy/client-references) do what their users do, each in a process of its own."""
import os, pathlib, shutil, subprocess

import pytest

from embeddings_test import ENCODER, PLANT, PRICES, TENANTS
from plant import NAME, Plant

CLIENTS = pathlib.Path(os.environ.get("TOKENWORKS_CLIENTS", os.path.expanduser("~/.cache/tokenworks/clients")))
HERE = pathlib.Path(__file__).resolve().parents[1] / "clients"


@pytest.fixture(scope="module")
def plant():
    with Plant(plant=PLANT, prices=PRICES, tenants=TENANTS, context=1024, kv="128MiB") as running:
        yield running


def run(plant, command, client):
    done = subprocess.run([*command, client, plant.api + "/v1", plant.key(), NAME, ENCODER], cwd=CLIENTS, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0 and done.stdout.rstrip().endswith("ok"), done.stdout[-4000:]
    report = plant.verify()
    assert report["ok"]


@pytest.mark.parametrize("client", ["langchain", "llamaindex", "instructor", "litellm"])
def test_python_client(plant, client):
    run(plant, [str(CLIENTS / "venv/bin/python"), str(HERE / "python_clients.py")], client)


@pytest.mark.parametrize("client", ["openai", "ai"])
def test_node_client(plant, client, tmp_path):
    # Modules are looked for beside the script: it runs from the folder that has them.
    script = CLIENTS / f".node_clients-{os.getpid()}.mjs"
    shutil.copy(HERE / "node_clients.mjs", script)
    try:
        run(plant, ["node", str(script)], client)
    finally:
        script.unlink()
