import functools
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surrogates.data import catalogue
from surrogates.data.catalogue import PublicFile, download, open_norman_bundle
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

# Rows, readouts, contexts, singles, pairs, whether there are standard errors.
FACTS = {
    "cellbox_skmel133": (89, 87, 1, 23, 66, False),
    "kang2018_pbmc": (7, 6547, 7, 7, 0, True),
    "laufer2013": (5823, 11, 1, 288, 5535, True),
    "norman2019_expr": (234, 2000, 1, 104, 130, False),
    "norman2019_fitness": (6328, 1, 1, 112, 6216, True),
    "perturbseq_cells": (33, 250, 1, 18, 15, True),
    "perturbseq_cells_crispri": (27, 438, 3, 27, 0, True),
}
# File, readouts, mode, whether there are standard errors. Checking
# the types of 100,000 perturbations one by one takes a minute.
LARGE_FACTS = {
    "horlbeck2018_jurkat": ("jurkat.parquet", ("gamma",), "knockdown", False),
    "horlbeck2018_k562": ("k562.parquet", ("gamma",), "knockdown", False),
    "oneil2016_synergy": ("synergy.parquet", ("synergy",), "compound", False),
    "schmidt2022_tcell": ("screen.parquet", ("ifng_lfc", "il2_lfc"), "knockdown", True),
}
ALIASES = {"horlbeck2018", "perturbseq_cells_crispra"}
JOINED = {"horlbeck2018_both"}  # tested beside the transfer model

RealData = Callable[[str], Path]


@pytest.mark.real_data
@pytest.mark.parametrize("name", FACTS)
def test_datasets_open(name: str, real_data: RealData) -> None:
    real_data(name)
    screen = catalogue.load(name)
    orders = [int((screen.batch.order == order).sum()) for order in (1, 2)]
    contexts = len(set(screen.contexts))
    facts = (*screen.effects.shape, contexts, *orders, screen.standard_errors is not None)
    assert facts == FACTS[name]
    assert screen.provenance["dataset"] == name
    assert screen.provenance["unit"]


@pytest.mark.real_data
@pytest.mark.parametrize("name", LARGE_FACTS)
def test_large_datasets_open_from_their_first_rows(
    name: str, real_data: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, readouts, mode, has_errors = LARGE_FACTS[name]
    folder = real_data(name)
    first = pd.read_parquet(folder / file).head(500)
    (tmp_path / folder.name).mkdir()
    first.to_parquet(tmp_path / folder.name / file)
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path))
    screen = catalogue.open_dataset(name)
    dropped = first["kind"].isin(["same_gene", "control"]).sum() if "kind" in first else 0
    assert (len(screen), screen.readouts) == (500 - dropped, readouts)
    assert {entry.mode for entry in screen.vocabulary.entries} == {mode}
    assert (screen.standard_errors is not None) == has_errors


@pytest.mark.real_data
def test_norman_keeps_its_folds(real_data: RealData) -> None:
    real_data("norman2019_expr")
    screen = catalogue.open_dataset("norman2019_expr")
    assert screen.annotations["double_fold"].value_counts().to_dict() == dict.fromkeys(range(5), 26) | {-1: 104}
    assert {entry.mode for entry in screen.vocabulary.entries} == {"activation"}


@pytest.mark.real_data
def test_doses_of_drugs_are_read(real_data: RealData) -> None:
    real_data("cellbox_skmel133")
    screen = catalogue.open_dataset("cellbox_skmel133")
    assert "901@1.5+HN@6" in screen.labels
    assert {entry.mode for entry in screen.vocabulary.entries} == {"compound"}


@pytest.mark.real_data
def test_pairs_of_laufer_have_the_origin_of_their_singles(real_data: RealData) -> None:
    real_data("laufer2013")
    screen = catalogue.open_dataset("laufer2013")
    assert additive_offset(screen).abs().max() < 0.05


def additive_offset(screen: Screen) -> torch.Tensor:
    pairs = torch.nonzero(screen.batch.order == 2).flatten()
    first, second = screen.single_rows[screen.batch.genes[pairs]].T
    return (screen.effects[pairs] - screen.effects[first] - screen.effects[second]).mean(dim=0)


def test_all_names_are_listed() -> None:
    assert set(catalogue.names()) == FACTS.keys() | LARGE_FACTS.keys() | ALIASES | JOINED


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'norman2019_expr'"):
        catalogue.load("norman2019_exp")
    with pytest.raises(UnknownNameError, match="unknown dataset 'norman'"):
        catalogue.locate("norman")


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("gene,y\nA,1\nB,2\nC,3\n")
    assert catalogue.load(tmp_path / "t.csv").labels == ("A", "B", "C")


def test_gene_features_are_no_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path))
    assert not catalogue.is_available("gene_features")
    (tmp_path / "gene_features").mkdir()
    assert catalogue.locate("gene_features") == tmp_path / "gene_features"
    with pytest.raises(DataError, match="is no screen; locate"):
        catalogue.load("gene_features")


def test_missing_data_name_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path))
    with pytest.raises(
        DataError, match=r"github.com/sanderlab/CellBox.*no download is offered.*INVERSE_DESIGN_DATA"
    ):
        catalogue.open_dataset("cellbox_skmel133")


def test_data_beside_the_working_directory_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(catalogue.VARIABLE, raising=False)
    folder = tmp_path / "shared" / "data" / "laufer2013"
    folder.mkdir(parents=True)
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    assert catalogue.locate("laufer2013") == folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def public_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A local stand-in for the public host; gives the folder that it serves."""
    root = tmp_path / "served"
    root.mkdir()
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "cache")
    handler = functools.partial(QuietHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(catalogue, "RAW_HOST", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield root
        server.shutdown()
        thread.join()


def publish(root: Path, content: bytes) -> PublicFile:
    file = PublicFile("owner/repository", "0" * 40, "data/file.npz", hashlib.sha256(content).hexdigest())
    path = root / file.repository / file.commit / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return file


def bundle(path: Path) -> Path:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    names = {"sing_labels": ["A", "B"], "doub_labels": ["A+B", "B+C"], "genes_hvg": ["g1", "g2"]}
    np.savez(path, lfc_s=values[:2], lfc_d=values[2:], **names)
    return path


def test_a_public_file_is_fetched_once(public_host: Path, tmp_path: Path) -> None:
    file = publish(public_host, b"content")
    assert download(file).read_bytes() == b"content"
    (public_host / file.repository / file.commit / file.path).unlink()
    assert download(file).parent == tmp_path / "cache"


def test_the_bundle_of_norman_is_fetched_when_there_is_no_folder(
    public_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path / "nowhere"))
    content = bundle(tmp_path / "b.npz").read_bytes()
    monkeypatch.setattr(catalogue, "NORMAN_BUNDLE", publish(public_host, content))
    screen = catalogue.load("norman2019_expr")
    assert screen.labels == ("A", "B", "A+B", "B+C")
    assert screen.readouts == ("g1", "g2")


def test_wrong_content_is_not_kept(public_host: Path, tmp_path: Path) -> None:
    good = publish(public_host, b"content")
    wrong = PublicFile(good.repository, good.commit, good.path, "0" * 64)
    with pytest.raises(DataError, match="does not have the known content and was not kept"):
        download(wrong)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_server_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(catalogue, "RAW_HOST", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"cannot be fetched .* INVERSE_DESIGN_DATA"):
        download(PublicFile("owner/repository", "0" * 40, "file.npz", "0" * 64))


def test_a_bundle_with_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", lfc_s=np.ones((1, 1)), lfc_d=np.ones((1, 1)), sing_labels=np.array([{}]))
    with pytest.raises(DataError, match="is not the known bundle of effects"):
        open_norman_bundle(tmp_path / "b.npz")
