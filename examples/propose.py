# %% [markdown]
# # From a measured screen to a ranked list
#
# The target is a measured double; its profile is left out of the training data.

# %%
from inverse_design import propose
from surrogates import open_dataset

screen = open_dataset("norman2019_expr")
proposal = propose(screen, "CEBPE+KLF1", order="2", top=5)
print(proposal.table[["rank", "perturbation", "probability", "reason"]].to_string(index=False))
print(proposal.notes)
