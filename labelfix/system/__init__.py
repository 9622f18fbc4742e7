"""What every stage stands on, and knows nothing of label noise.

Import the modules by name: some need numpy or torch.

===========  ======================================================================
`files`      whole files or none
`paths`      the paths that a run is pointed at, checked before anything heavy is loaded
`run_files`  the names of the files of a run
`hashing`    digests of files and values, and seeds that follow from them
`folds`      folds and order that follow the images
`clock`      how long the stages of a run took
`progress`   how a stage tells a person how far it is
`devices`    where torch computes, and in which number format
===========  ======================================================================
"""
