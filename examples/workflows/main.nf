// Candidates for each target, with a report, after a look at the data:
//   nextflow run examples/workflows/main.nf
//   nextflow run ... --screen my.h5ad --targets 'states/*.csv'
params.screen = "${projectDir}/../screen.csv"
params.targets = "${projectDir}/../target.csv"
params.results = "results"

process CHECK {
    publishDir params.results, mode: "copy"

    input:
    path screen

    output:
    path "check.json"

    script:
    """
    inverse-design check ${screen} --json > check.json
    """
}

process PROPOSE {
    publishDir params.results, mode: "copy"

    input:
    path screen
    path target

    output:
    path "${target.baseName}.candidates.csv"
    path "${target.baseName}.html"

    script:
    """
    inverse-design propose ${screen} --target ${target} --top 20 --yes \\
        -o ${target.baseName}.candidates.csv --report ${target.baseName}.html
    """
}

workflow {
    screen = file(params.screen)
    CHECK(screen)
    PROPOSE(screen, channel.fromPath(params.targets))
}
