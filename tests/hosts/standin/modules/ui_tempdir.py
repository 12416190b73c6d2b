"""The files that the page may show."""


def check_tmp_file(demo, filename):
    return filename in demo.temp_files
