"""Multiply-adds of every network as they are counted, against closed forms from the papers' tables."""

import pytest
from mac_oracles import MACS

from seqlab.accounting import account, of_module
from seqlab.models.convnets import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_those_of_the_papers_tables(name):
    network = NETWORKS[name]
    counted = account(of_module(name, network.module, network.input_shape))
    assert counted.totals.macs == MACS[name]
