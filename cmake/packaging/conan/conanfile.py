"""fathom as a package of Conan 2:  conan create cmake/packaging/conan"""

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy
from conan.tools.layout import basic_layout

ROOT = Path(__file__).resolve().parents[3]


class Fathom(ConanFile):
    name = "fathom"
    description = "Transformer language models fixed at compile time"
    license = "MIT"
    topics = ("transformer", "language-model", "header-only", "simd")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    def set_version(self):
        self.version = re.search(r"VERSION (\d+\.\d+\.\d+)", (ROOT / "CMakeLists.txt").read_text().split("project(fathom", 1)[1])[1]

    def export_sources(self):
        copy(self, "include/*", ROOT, self.export_sources_folder)
        copy(self, "LICENSE", ROOT, self.export_sources_folder)

    def layout(self):
        basic_layout(self)

    def requirements(self):
        self.requires("xsimd/[>=8.1]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    def package(self):
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")
        copy(self, "*", Path(self.source_folder) / "include", Path(self.package_folder) / "include")

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "fathom")
        self.cpp_info.set_property("cmake_target_name", "fathom::fathom")
        self.cpp_info.set_property("pkg_config_name", "fathom")
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
